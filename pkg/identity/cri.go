// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	cri "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"
)

// DefaultCRIEndpoints are the sockets of the usual runtimes; the first that is there and answers is taken.
var DefaultCRIEndpoints = []string{"unix:///run/containerd/containerd.sock", "unix:///run/crio/crio.sock", "unix:///run/cri-dockerd.sock"}

const (
	// criTimeout bounds one question to the runtime.
	criTimeout = 10 * time.Second
	// criRetry is how long it takes until a runtime is looked for again.
	criRetry = 3 * time.Second
)

var (
	// ErrNoRuntime is returned as long as no container runtime has been found.
	ErrNoRuntime = errors.New("no container runtime answers")
	// ErrNoContainer is returned where the runtime knows no such container.
	ErrNoContainer = errors.New("the container runtime has no such container")
)

// CRI asks the container runtime of this node. Safe for concurrent use.
type CRI struct {
	endpoints []string

	mu      sync.Mutex
	service internalapi.RuntimeService // nil until one answered
	name    string                     // of the runtime, as it begins the ids of containers in the status of pods
}

// NewCRI makes a client of the runtime at the first endpoint, unix:///path, at which one answers.
func NewCRI(endpoints []string) *CRI { return &CRI{endpoints: endpoints} }

// Run connects, and keeps the connection until ctx ends. A runtime that goes away and comes back is found again.
func (c *CRI) Run(ctx context.Context) error {
	// What the client writes of its own concerns containers that are gone, every time.
	quiet := klog.NewContext(ctx, logr.Discard())
	said := ""
	for {
		service, name, endpoint, err := c.connect(quiet)
		if err == nil {
			klog.FromContext(ctx).Info("The container runtime answers", "endpoint", endpoint, "runtime", name)
			c.mu.Lock()
			c.service, c.name = service, name
			c.mu.Unlock()
			<-ctx.Done()
			return service.Close(quiet)
		}
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			klog.FromContext(ctx).Info("No container runtime answers yet", "reason", said)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(criRetry):
		}
	}
}

func (c *CRI) connect(ctx context.Context) (internalapi.RuntimeService, string, string, error) {
	var failed []error
	for _, endpoint := range c.endpoints {
		if _, err := os.Stat(strings.TrimPrefix(endpoint, "unix://")); err != nil {
			failed = append(failed, err)
			continue
		}
		service, err := cri.NewRemoteRuntimeServiceBuilder().WithEndpoint(endpoint).WithConnectionTimeout(criTimeout).WithTracerProvider(nil).Build(ctx)
		if err != nil {
			failed = append(failed, fmt.Errorf("container runtime at %s: %w", endpoint, err))
			continue
		}
		version, err := service.Version(ctx, "")
		if err != nil {
			failed = append(failed, fmt.Errorf("container runtime at %s: %w", endpoint, err), service.Close(ctx))
			continue
		}
		return service, version.RuntimeName, endpoint, nil
	}
	return nil, "", "", errors.Join(failed...)
}

// Connected tells whether a runtime has been found.
func (c *CRI) Connected() bool {
	service, _ := c.get()
	return service != nil
}

func (c *CRI) get() (internalapi.RuntimeService, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.service, c.name
}

// Status gives what the runtime says of a container; id is what follows the scheme. Errors are ErrNoRuntime, ErrNoContainer, or those of a
// runtime that gave no answer.
func (c *CRI) Status(ctx context.Context, id string) (*runtimeapi.ContainerStatus, error) {
	service, _ := c.get()
	if service == nil {
		return nil, ErrNoRuntime
	}
	got, err := service.ContainerStatus(klog.NewContext(ctx, logr.Discard()), id, false)
	if err == nil && got.GetStatus() == nil {
		return nil, ErrNoContainer
	}
	if err != nil {
		return nil, criError(id, err)
	}
	return got.Status, nil
}

// criError tells that there is no such container from having no answer. cri-dockerd does not use the code for it.
func criError(id string, err error) error {
	if s := status.Code(err); s == codes.NotFound || s == codes.Unknown {
		return fmt.Errorf("%w: %s: %w", ErrNoContainer, id, err)
	}
	return fmt.Errorf("container runtime: %s: %w", id, err)
}

// Labels that the kubelet puts on containers and sandboxes, see k8s.io/kubelet/pkg/types.
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelPodUID        = "io.kubernetes.pod.uid"
	labelContainerName = "io.kubernetes.container.name"
)

// told is what the runtime says of a container or sandbox.
type told struct {
	namespace, pod, uid, container string
	id, image, imageID, logPath    string
	sandbox                        bool
	// created is when it was made; zero where the runtime does not say.
	created time.Time
}

// tell asks for a container, or the sandbox of that id.
func (c *CRI) tell(ctx context.Context, id string) (*told, error) {
	s, err := c.Status(ctx, id)
	if errors.Is(err, ErrNoContainer) {
		return c.tellSandbox(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	_, name := c.get()
	return &told{
		namespace: s.Labels[labelPodNamespace], pod: s.Labels[labelPodName], uid: s.Labels[labelPodUID], container: s.Labels[labelContainerName],
		id: name + "://" + id, image: imageName(s.GetImage()), imageID: s.ImageRef, logPath: s.LogPath,
		created: createdAt(s.CreatedAt),
	}, nil
}

// imageName is what the pod asked for, where the runtime still knows that.
func imageName(i *runtimeapi.ImageSpec) string {
	if asked := i.GetUserSpecifiedImage(); asked != "" {
		return asked
	}
	return i.GetImage()
}

func (c *CRI) tellSandbox(ctx context.Context, id string) (*told, error) {
	service, name := c.get()
	got, err := service.PodSandboxStatus(klog.NewContext(ctx, logr.Discard()), id, false)
	if err != nil {
		return nil, criError(id, err)
	}
	if got.GetStatus() == nil {
		return nil, ErrNoContainer
	}
	m := got.Status.GetMetadata()
	return &told{
		namespace: m.GetNamespace(), pod: m.GetName(), uid: m.GetUid(), container: SandboxContainer, id: name + "://" + id, sandbox: true,
		created: createdAt(got.Status.GetCreatedAt()),
	}, nil
}

// createdAt is in nanoseconds, see ContainerStatus in the API of CRI.
func createdAt(nanoseconds int64) time.Time {
	if nanoseconds <= 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}
