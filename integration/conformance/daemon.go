package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// How long a daemon may take to answer after it was started.
const patience = 30 * time.Second

// Between two looks whether it does.
const pause = 5 * time.Millisecond

// program is the environment variable with the path of our daemon.
const program = "NEXUSEROFS_SNAPSHOTTER"

// A daemon of our own, on a root of its own, and a connection to it.
type daemon struct {
	root       string
	process    *exec.Cmd
	log        *os.File
	connection *grpc.ClientConn
}

// startDaemon starts a daemon whose data, socket, settings and log lie in dir, and waits until it answers.
func startDaemon(ctx context.Context, dir, settings string) (_ *daemon, err error) {
	path := os.Getenv(program)
	if path == "" {
		return nil, fmt.Errorf("set %s to the path of the daemon under test", program)
	}
	d := &daemon{root: filepath.Join(dir, "data")}
	if d.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "socket")
	// The suite reads no content, so no containerd is needed; the daemon takes the address as it is.
	arguments := []string{"--root", d.root, "--address", socket, "--containerd-address", filepath.Join(dir, "none")}
	file := filepath.Join(dir, "settings.toml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		return nil, errors.Join(err, d.log.Close())
	}
	d.process = exec.Command(path, append(arguments, "--config", file)...)
	d.process.Stdout, d.process.Stderr = d.log, d.log
	if err := d.process.Start(); err != nil {
		return nil, errors.Join(err, d.log.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	if err := d.waitUntilItListens(ctx, socket); err != nil {
		return nil, err
	}
	d.connection, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return d, err
}

// waitUntilItListens keeps gRPC from a first attempt that fails, after which it would do nothing for a second.
func (d *daemon) waitUntilItListens(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		connection, err := net.Dial("unix", socket)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not listen: %w\n%s", err, d.logged())
		case <-time.After(pause):
		}
	}
}

// snapshotter is containerd's client for one of the daemon's profiles.
func (d *daemon) snapshotter(profile string) snapshots.Snapshotter {
	return proxy.NewSnapshotter(api.NewSnapshotsClient(d.connection), profile)
}

// stop ends the daemon as a service manager does and takes away the mounts that it leaves for its next start.
func (d *daemon) stop() error {
	var errs []error
	if d.connection != nil {
		errs = append(errs, d.connection.Close())
	}
	errs = append(errs, d.process.Process.Signal(syscall.SIGTERM))
	if err := d.process.Wait(); err != nil {
		errs = append(errs, fmt.Errorf("the daemon ended with: %w\n%s", err, d.logged()))
	}
	errs = append(errs, d.log.Close(), mount.UnmountRecursive(d.root, 0))
	return errors.Join(errs...)
}

func (d *daemon) logged() []byte {
	text, err := os.ReadFile(d.log.Name())
	if err != nil {
		return []byte(err.Error())
	}
	return text
}
