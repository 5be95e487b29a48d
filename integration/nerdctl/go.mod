module nexuserofs/integration/nerdctl

go 1.26.3

tool github.com/containerd/nerdctl/v2/cmd/nerdctl

require github.com/containerd/nerdctl/v2 v2.2.2
