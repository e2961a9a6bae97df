// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

const (
	// saveEvery is how often the memory is written, at most.
	saveEvery = 5 * time.Second
	// maxFile bounds the file, in bytes, and maxContainers the containers of a pod in it.
	maxFile       = 16 << 20
	maxContainers = 1024
)

// The file of the memory is JSON: fileOfPods.
type fileOfPods struct {
	Version int         `json:"version"`
	Pods    []podInFile `json:"pods"`
}

type podInFile struct {
	Namespace   string                   `json:"namespace"`
	Name        string                   `json:"name"`
	UID         string                   `json:"uid"`
	Created     time.Time                `json:"created"`
	Deleted     time.Time                `json:"deleted,omitzero"`
	Mirrors     string                   `json:"mirrors,omitempty"`
	Labels      map[string]string        `json:"labels,omitempty"`
	Annotations map[string]string        `json:"annotations,omitempty"`
	Owner       *v1alpha1.OwnerReference `json:"owner,omitempty"`
	In          *namespaceInFile         `json:"in,omitempty"`
	Containers  []containerInFile        `json:"containers,omitempty"`
}

type namespaceInFile struct {
	UID     string            `json:"uid"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
}

type containerInFile struct {
	Name      string           `json:"name"`
	Image     string           `json:"image,omitempty"`
	ImageID   string           `json:"imageID,omitempty"`
	Instances []instanceInFile `json:"instances,omitempty"`
}

type instanceInFile struct {
	ID      string    `json:"id"`
	Started time.Time `json:"started"`
}

// Remember makes Kubernetes keep what it knows of pods in the file, also over restarts: a pod that is deleted while the node handler is down is
// known then. It must be called before Run, which writes the file, and reads what is there. Where that is not a file that Run wrote,
// it fails, and the file will be written anew. The directory must be writable by root alone.
func (k *Kubernetes) Remember(file string) error {
	k.file = file
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remembered pods: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("remembered pods: %w", err)
	}
	pods, err := decodePods(data)
	if err != nil {
		return fmt.Errorf("remembered pods: %s: %w", file, err)
	}
	k.memory.restore(pods)
	return nil
}

// restore puts what the file had into an empty memory.
func (m *memory) restore(pods []*pod) {
	for _, p := range pods {
		deleted := p.deleted
		p.deleted, p.unseen = time.Time{}, true
		m.put(p.namespace+"/"+p.name, p)
		if !deleted.IsZero() {
			m.remove(p.namespace+"/"+p.name, p.uid, deleted)
		}
	}
}

// decodePods reads the file of the memory: the deleted pods in the order of their deletion, and the others.
func decodePods(data []byte) ([]*pod, error) {
	var f fileOfPods
	if err := decode(data, maxFile, &f); err != nil {
		return nil, err
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("version %d is not known", f.Version)
	}
	pods := make([]*pod, 0, len(f.Pods))
	seen := map[string]bool{}
	for _, p := range f.Pods {
		if !storage.ValidNamespace(p.Namespace) || !storage.ValidPod(p.Name) || !validUID(p.UID) || seen[p.UID] || len(p.Containers) > maxContainers {
			return nil, fmt.Errorf("%.63q, %.253q, %.64q is no pod, or is there twice", p.Namespace, p.Name, p.UID)
		}
		seen[p.UID] = true
		r := &pod{
			namespace: p.Namespace, name: p.Name, uid: p.UID, created: p.Created, deleted: p.Deleted, mirrors: p.Mirrors,
			labels: bounded(p.Labels, ""), annotations: bounded(p.Annotations, AnnotationPrefix), owner: p.Owner, containers: map[string]container{},
		}
		if p.In != nil {
			r.ns = &namespace{uid: p.In.UID, created: p.In.Created, labels: bounded(p.In.Labels, AnnotationPrefix)}
		}
		for _, c := range p.Containers {
			k := container{image: c.Image, imageID: c.ImageID}
			for _, i := range c.Instances {
				k.instances = append(k.instances, instance{i.ID, i.Started})
			}
			r.containers[c.Name] = k
		}
		pods = append(pods, r)
	}
	slices.SortStableFunc(pods, func(a, b *pod) int { return a.deleted.Compare(b.deleted) })
	return pods, nil
}

// encode gives the text of the file: the living pods and as many of the deleted ones, the latest first, as there is room for. It is nil where
// nothing has changed since the last time.
func (m *memory) encode() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.changed {
		return nil, nil
	}
	pods := make([]*pod, 0, len(m.uids))
	for _, p := range m.uids {
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b *pod) int {
		if a.deleted.IsZero() != b.deleted.IsZero() {
			if a.deleted.IsZero() {
				return -1
			}
			return 1
		}
		if n := b.deleted.Compare(a.deleted); n != 0 {
			return n
		}
		return strings.Compare(a.uid, b.uid)
	})
	// The parts are joined by hand, so that the bound holds without encoding anything twice.
	text := []byte(`{"version":1,"pods":[`)
	for i, p := range pods {
		one, err := json.Marshal(p.inFile())
		if err != nil {
			return nil, err
		}
		if len(text)+len(one)+8 > maxFile {
			break
		}
		if i > 0 {
			text = append(text, ",\n"...)
		}
		text = append(text, one...)
	}
	m.changed = false
	return append(text, "]}\n"...), nil
}

func (p *pod) inFile() podInFile {
	f := podInFile{
		Namespace: p.namespace, Name: p.name, UID: p.uid, Created: p.created, Deleted: p.deleted, Mirrors: p.mirrors,
		Labels: p.labels, Annotations: p.annotations, Owner: p.owner,
	}
	if p.ns != nil {
		f.In = &namespaceInFile{p.ns.uid, p.ns.created, p.ns.labels}
	}
	for name, c := range p.containers {
		if len(f.Containers) == maxContainers {
			break
		}
		k := containerInFile{Name: name, Image: c.image, ImageID: c.imageID}
		for _, i := range c.instances {
			k.Instances = append(k.Instances, instanceInFile{i.id, i.started})
		}
		f.Containers = append(f.Containers, k)
	}
	return f
}

// keep writes the memory into the file until ctx ends, and once more then. Once all pods of this node are known it takes those that were in the file and
// are not among them for deleted.
func (k *Kubernetes) keep(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	synced := time.NewTicker(100 * time.Millisecond)
	defer synced.Stop()
	for {
		select {
		case <-ctx.Done():
			k.save(ctx)
			return
		case <-synced.C:
			if k.Synced() {
				synced.Stop()
				for _, p := range k.memory.missed() {
					k.memory.remove(p.namespace+"/"+p.name, p.uid, time.Now())
				}
			}
		case <-tick.C:
			k.save(ctx)
		}
	}
}

func (k *Kubernetes) save(ctx context.Context) {
	if k.file == "" {
		return
	}
	data, err := k.memory.encode()
	if err == nil && data != nil {
		err = replace(k.file, data)
	}
	if err != nil {
		k.memory.mu.Lock()
		k.memory.changed = true
		k.memory.mu.Unlock()
		klog.FromContext(ctx).Error(err, "What is known of pods cannot be kept over a restart", "file", k.file)
	}
}

// replace writes a file that is there whole or as it was before, whatever happens.
func replace(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
