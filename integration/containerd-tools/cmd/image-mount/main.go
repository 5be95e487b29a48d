// Image-mount mounts the root file system of an unpacked image the way a containerd client does:
// a snapshot on top of the image's chain, its mount list through containerd's mount manager, and what
// the manager leaves over through containerd's own mount package.
//
// `ctr images mount` cannot be used for that: it asks for a temporary activation, on which the mount
// manager of 2.2 and 2.3 panics for lists with a transform.
//
//	image-mount -address SOCKET -namespace NS -snapshotter NAME -key KEY [-writable] IMAGE TARGET
//	image-mount -address SOCKET -namespace NS -snapshotter NAME -key KEY -undo TARGET
//
// The first form prints the snapshotter's mount list as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/identity"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image-mount:", err)
		os.Exit(1)
	}
}

func run() error {
	address := flag.String("address", "", "containerd's socket")
	namespace := flag.String("namespace", "default", "containerd namespace")
	snapshotter := flag.String("snapshotter", "", "name of the snapshotter")
	key := flag.String("key", "", "key of the snapshot and name of the activation")
	writable := flag.Bool("writable", false, "an active snapshot instead of a view")
	undo := flag.Bool("undo", false, "unmount and remove what an earlier call with this key made")
	flag.Parse()

	client, err := containerd.New(*address, containerd.WithDefaultNamespace(*namespace))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", *address, err)
	}
	defer client.Close()
	ctx := namespaces.WithNamespace(context.Background(), *namespace)
	snapshotService := client.SnapshotService(*snapshotter)

	if *undo {
		return takeDown(ctx, client.MountManager(), snapshotService, *key, flag.Arg(0))
	}
	parent, err := chainID(ctx, client, flag.Arg(0))
	if err != nil {
		return err
	}
	prepare := snapshotService.View
	if *writable {
		prepare = snapshotService.Prepare
	}
	// Nothing else refers to the snapshot, so without this label garbage collection would take it.
	rooted := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "image-mount"})
	mounts, err := prepare(ctx, *key, parent, rooted)
	if err != nil {
		return fmt.Errorf("snapshot %q on %s: %w", *key, parent, err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(mounts); err != nil {
		return err
	}
	// The activation lives as long as the snapshot: garbage collection takes what nothing refers to.
	referred := mount.WithLabels(map[string]string{"containerd.io/gc.bref.snapshot." + *snapshotter: *key})
	return mountAll(ctx, client.MountManager(), *key, mounts, flag.Arg(1), referred)
}

func chainID(ctx context.Context, client *containerd.Client, name string) (string, error) {
	image, err := client.GetImage(ctx, name)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", name, err)
	}
	diffIDs, err := image.RootFS(ctx)
	if err != nil {
		return "", fmt.Errorf("diffIDs of %s: %w", name, err)
	}
	return identity.ChainID(diffIDs).String(), nil
}

func mountAll(
	ctx context.Context, manager mount.Manager, key string, mounts []mount.Mount, target string,
	options ...mount.ActivateOpt,
) error {
	activation, err := manager.Activate(ctx, key, mounts, options...)
	switch {
	case err == nil:
		mounts = activation.System
	case !errdefs.IsNotImplemented(err):
		return fmt.Errorf("activate %q: %w", key, err)
	}
	// An activation without system mounts is complete: its last mount is the root file system.
	if len(mounts) == 0 {
		last := activation.Active[len(activation.Active)-1]
		mounts = []mount.Mount{{Type: "bind", Source: last.MountPoint, Options: []string{"ro", "rbind"}}}
	}
	if err := mount.All(mounts, target); err != nil {
		return fmt.Errorf("mount %v on %s: %w", mounts, target, err)
	}
	return nil
}

func takeDown(ctx context.Context, manager mount.Manager, service snapshots.Snapshotter, key, target string) error {
	unmounted := mount.UnmountAll(target, 0)
	deactivated := manager.Deactivate(ctx, key)
	// Releases before 2.2 have no mount manager, so there is nothing that one could hold.
	if errdefs.IsNotFound(deactivated) || errdefs.IsNotImplemented(deactivated) {
		deactivated = nil
	}
	return errors.Join(unmounted, deactivated, service.Remove(ctx, key))
}
