// Package conformance runs containerd's own suite for snapshotters against our daemon, as containerd would call it,
// and against containerd's built-in erofs snapshotter.
package conformance

// The profiles that a host can mount, by the names that containerd calls the daemon's snapshotters.
const (
	templates = "nexuserofs"
	host      = "nexuserofs-host"
	merged    = "nexuserofs-merged"
)
