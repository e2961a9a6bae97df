# shellcheck shell=bash
# Sourced from the top of the repository: builds what tests, demo and benchmarks run, and exports where it is. With the argument "node", also what runs pods.
COREDUMP_S3SERVER=$(hack/build-tools.sh s3server)/s3server
COREDUMP_CONTROLPLANE=$(hack/build-tools.sh controlplane)
COREDUMP_BIN=$PWD/_output/bin # made by `make build`
export COREDUMP_S3SERVER COREDUMP_CONTROLPLANE COREDUMP_BIN
if [ "${1:-}" = node ]; then
  COREDUMP_NODE=$(hack/build-tools.sh node)
  COREDUMP_CONTAINERD=$(hack/build-tools.sh containerd)
  COREDUMP_RUNC=$(hack/build-tools.sh runc)
  COREDUMP_CNI=$(hack/build-tools.sh cni)
  export COREDUMP_NODE COREDUMP_CONTAINERD COREDUMP_RUNC COREDUMP_CNI
fi
