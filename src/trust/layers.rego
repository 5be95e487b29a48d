# Holds the storages of a container against the layers of one image.
#
# For the policy of Kata's agent (kata-containers, src/tools/genpolicy): put this into the package
# agent_policy and have allow_storages call nexuserofs_allow_storages(input.storages). The agent has to be
# built with dm-verity. The options and their order are those of Kata's runtime-rs of August 2026
# (src/runtime-rs/crates/resource/src/rootfs/erofs_rootfs.rs); another version has to be compared with it.
package agent_policy

import future.keywords.every
import future.keywords.if
import future.keywords.in

default nexuserofs_allow_storages(_) := false

nexuserofs_allow_storages(storages) if {
	lowers := [storage | storage := storages[_]; storage.fstype == "erofs"]
	total := count(nexuserofs_layers)

	# With one layer Kata mounts without dm-verity.
	total >= 2
	count(lowers) == total

	# Nothing of the host's takes the writes: the agent uses memory.
	count([storage | storage := storages[_]; storage.fstype == "ext4"]) == 0

	# All are partitions of one disk. Partition 1 is the newest layer.
	count({storage.source | storage := lowers[_]}) == 1
	every index, layer in nexuserofs_layers {
		number := total - index
		some lower in lowers
		nexuserofs_options(lower) == [
			"X-kata.overlay-lower",
			"X-kata.multi-layer=true",
			"X-kata.gpt-partitioned=true",
			sprintf("X-kata.partition-number=%d", [number]),
			"X-kata.dmverity-enabled=true",
			sprintf("X-kata.dmverity.roothash=%s", [layer.root]),
			sprintf("X-kata.dmverity.hashoffset=%d", [layer.offset]),
			"X-kata.dmverity.no-superblock=false",
			sprintf("X-kata.dmverity.salt=%s", [layer.salt]),
		]
	}
}

# The options without the directories that are made for overlayfs, which have to be those of the plan.
nexuserofs_options(storage) := [option |
	option := storage.options[_]
	not option in nexuserofs_directories
]

nexuserofs_directories := {
	"X-kata.mkdir.path={{ mount 0 }}/upper:0755",
	"X-kata.mkdir.path={{ mount 0 }}/work:0755",
}
