// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The container whose process crashes.
const (
	podUID      = "00000000-0000-4000-8000-00000000be4c"
	containerID = "be4cbe4cbe4cbe4cbe4cbe4cbe4cbe4cbe4cbe4cbe4cbe4cbe4cbe4cbe4cbe4c"
)

// containerRuntime tells whose that container is, as a real one does: the node handler asks while the process is held.
type containerRuntime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	server *grpc.Server
	done   chan struct{}
}

func startRuntime(socket string) (*containerRuntime, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	r := &containerRuntime{server: grpc.NewServer(), done: make(chan struct{})}
	runtimeapi.RegisterRuntimeServiceServer(r.server, r)
	go func() { defer close(r.done); _ = r.server.Serve(listener) }()
	return r, nil
}

func (r *containerRuntime) stop() {
	r.server.Stop()
	<-r.done
}

func (*containerRuntime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "containerd", RuntimeVersion: "v2", RuntimeApiVersion: "v1"}, nil
}

func (*containerRuntime) ContainerStatus(_ context.Context, q *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	if q.ContainerId != containerID {
		return nil, status.Error(codes.NotFound, "no such container")
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
		Id: containerID, Metadata: &runtimeapi.ContainerMetadata{Name: container}, Image: &runtimeapi.ImageSpec{Image: "bench:1"}, ImageRef: "bench@sha256:1", CreatedAt: 1,
		Labels: map[string]string{
			"io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": pod, "io.kubernetes.pod.uid": podUID, "io.kubernetes.container.name": container,
		},
	}}, nil
}
