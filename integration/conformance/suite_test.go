package conformance

import (
	"context"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"github.com/containerd/containerd/v2/plugins/snapshots/erofs"
)

// suite is the name that containerd's own erofs snapshotter gives the suite. For this name it leaves out renames of
// directories of a lower layer, which no overlay without redirect_dir allows.
const suite = "erofs"

// Settings of a daemon.
const (
	// What containerd's own test gives a writable block: 16 MiB.
	blocks = `default_size = "16MiB"
`
	// Layers that are merged, and mounted by the daemon.
	mergedHost = `[profiles.nexuserofs-merged]
flavour = "host"
`
)

func TestTemplatesInDirectories(t *testing.T) { ours(t, templates, "") }

func TestTemplatesInBlocks(t *testing.T) { ours(t, templates, blocks) }

func TestHostInDirectories(t *testing.T) { ours(t, host, "") }

func TestHostInBlocks(t *testing.T) { ours(t, host, blocks) }

// Without its counterpart for templates: the suite's own mount manager lacks containerd's handler of erofs, and without
// that no one mounts an image with the devices that its data is on.
func TestMergedHost(t *testing.T) { ours(t, merged, mergedHost) }

// TestBuiltin is the snapshotter that we are measured against, in this process.
func TestBuiltin(t *testing.T) {
	testsuite.SnapshotterSuite(t, suite, func(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		snapshotter, err := erofs.NewSnapshotter(root)
		if err != nil {
			return nil, nil, err
		}
		return snapshotter, snapshotter.Close, nil
	})
}

// ours runs the suite on a profile, with a new daemon for each of its tests.
func ours(t *testing.T, profile, settings string) {
	testsuite.SnapshotterSuite(t, suite, func(ctx context.Context, dir string) (snapshots.Snapshotter, func() error, error) {
		daemon, err := startDaemon(ctx, dir, settings)
		if err != nil {
			return nil, nil, err
		}
		return daemon.snapshotter(profile), daemon.stop, nil
	})
}
