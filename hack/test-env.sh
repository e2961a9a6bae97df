# shellcheck shell=bash
# Sourced from the top of the repository: builds what tests, demo and benchmarks run, and exports where it is.
COREDUMP_S3SERVER=$(hack/build-tools.sh s3server)/s3server
COREDUMP_CONTROLPLANE=$(hack/build-tools.sh controlplane)
COREDUMP_BIN=$PWD/_output/bin # made by `make build`
export COREDUMP_S3SERVER COREDUMP_CONTROLPLANE COREDUMP_BIN
