# Holds the storages of a container against the layers of the images that may run.
#
# For the policy of Kata's agent (kata-containers, src/tools/genpolicy): put this into the package
# agent_policy and make CreateContainerRequest depend on nexuserofs_allow_container(input). The agent has to be
# built with dm-verity, and the snapshots have to be of a profile with verity = "require". Everything is compared
# with what Kata's runtime-rs of August 2026 sends (src/runtime-rs/crates/resource/src/rootfs/erofs_rootfs.rs);
# another release of Kata has to be compared with that first.
package agent_policy

import future.keywords.every
import future.keywords.if
import future.keywords.in

default nexuserofs_allow_container(_) := false

default nexuserofs_allow_storages(_) := false

# The container runs in what the layers make, and nowhere else.
nexuserofs_allow_container(request) if {
	nexuserofs_allow_storages(request.storages)
	some part in request.storages
	nexuserofs_is_part(part)
	part.mount_point == request.OCI.Root.Path
}

nexuserofs_allow_storages(storages) if {
	some lowers in nexuserofs_images
	nexuserofs_are_image(storages, lowers)
}

nexuserofs_are_image(storages, lowers) if {
	parts := [storage | some storage in storages; nexuserofs_is_part(storage)]

	# As many as there are layers, and each layer is among them: so nothing is there twice, and nothing else.
	count(parts) == count(lowers)
	every options in lowers {
		some part in parts
		nexuserofs_is_lower(part, options)
	}

	# Partitions of one disk, for one place.
	count({[part.driver, part.source] | some part in parts}) == 1
	places := {part.mount_point | some part in parts}
	count(places) == 1

	every storage in storages {
		nexuserofs_is_elsewhere(storage, places)
	}
}

# What the agent takes for a part of the root file system (src/agent/src/storage/multi_layer_erofs.rs), and more:
# whatever has one of its options, so that no upper of the host's is among them.
nexuserofs_is_part(storage) if {
	some option in storage.options
	startswith(option, "X-kata.")
}

nexuserofs_is_part(storage) if storage.driver == "erofs.multi-layer"

nexuserofs_is_part(storage) if lower(storage.fstype) == "erofs"

# Exactly the options of a layer with dm-verity, in Kata's order.
nexuserofs_is_lower(part, options) if {
	part.options == options
	part.fstype == "erofs"
	part.driver in {"blk", "scsi"}
	count(object.get(part, "driver_options", [])) == 0
}

nexuserofs_is_elsewhere(storage, _) if nexuserofs_is_part(storage)

# A volume is neither mounted on the root file system, nor in it, nor on what it lies in.
nexuserofs_is_elsewhere(storage, places) if {
	not nexuserofs_is_part(storage)
	not contains(storage.mount_point, "..")
	not contains(storage.mount_point, "//")
	not contains(storage.mount_point, "/./")
	every place in places {
		not startswith(sprintf("%s/", [storage.mount_point]), sprintf("%s/", [place]))
		not startswith(sprintf("%s/", [place]), sprintf("%s/", [trim_right(storage.mount_point, "/")]))
	}
}
