// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
)

// Image is a container image of programs and nothing else: static ones, as those on distroless/static, or with what they are linked with (Programs).
type Image struct {
	// Name with the tag, as pods ask for it.
	Name string
	// Files are the programs: their paths in the image, and here. The first in the order of the alphabet is the entry point where Entrypoint is empty.
	Files      map[string]string
	Entrypoint []string
	// User is the uid; root where empty.
	User string
}

// LoadImage gives the image to the container runtime. Pods find it there: no registry is asked.
func (n *Node) LoadImage(ctx context.Context, image Image) error {
	archive, err := os.CreateTemp(n.Cluster.Dir, "image-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(archive.Name())
	err = errors.Join(image.write(archive), archive.Close())
	if err == nil {
		err = n.ctr(ctx, "--namespace=k8s.io", "images", "import", "--local", archive.Name())
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", image.Name, err)
	}
	return nil
}

func (n *Node) ctr(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(n.Assets.Containerd, "ctr"), append([]string{"--address=" + criSocket}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ctr %v: %w: %s", args, err, out)
	}
	return nil
}

// loadPause builds the program that holds the namespaces of a pod, and loads its image.
func (n *Node) loadPause(ctx context.Context) error {
	program := n.Cluster.file("pause")
	source := filepath.Join(n.Cluster.Dir, "pause.go")
	if err := os.WriteFile(source, []byte(pauseSource), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GO111MODULE=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build pause: %w: %s", err, out)
	}
	return n.LoadImage(ctx, Image{Name: pauseImage, Files: map[string]string{"pause": program}})
}

const pauseSource = `package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	<-end
}
`

// write writes the image in the format of "docker save".
func (i Image) write(w io.Writer) error {
	layer, err := i.layer()
	if err != nil {
		return err
	}
	entry := i.Entrypoint
	if len(entry) == 0 {
		entry = []string{"/" + slices.Sorted(maps.Keys(i.Files))[0]}
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": entry, "User": i.User, "WorkingDir": "/", "Env": []string{"PATH=" + searchPath}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return err
	}
	name := digest(config) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{i.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	return errors.Join(add(archive, name, 0o644, config), add(archive, "layer.tar", 0o644, layer), add(archive, "manifest.json", 0o644, manifest), archive.Close())
}

// layer is the one layer of the image, in memory.
func (i Image) layer() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	errs := []error{
		w.WriteHeader(&tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}),
		w.WriteHeader(&tar.Header{Name: "etc/", Mode: 0o755, Typeflag: tar.TypeDir}),
		add(w, "etc/passwd", 0o644, []byte("root:x:0:0:root:/:/nologin\nnonroot:x:65532:65532:nonroot:/:/nologin\n")),
	}
	for _, path := range slices.Sorted(maps.Keys(i.Files)) {
		data, err := os.ReadFile(i.Files[path])
		if err != nil {
			return nil, err
		}
		errs = append(errs, add(w, path, 0o755, data))
	}
	err := errors.Join(append(errs, w.Close())...) // before the bytes are taken: Close writes the end
	return b.Bytes(), err
}

func add(w *tar.Writer, name string, mode int64, data []byte) error {
	err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(data)
	}
	return err
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
