// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	"k8s.io/utils/lru"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/storage"
	"example.io/coredump/pkg/tarball"
)

const (
	// contextChecks is how many contexts are read at a time before the answer begins.
	contextChecks = 8
	// contextError is the file that is in an archive in place of a context that cannot be served.
	contextError = "context-error.txt"
)

// bundles knows which bundles are what was put there. Safe for concurrent use.
type bundles struct {
	cores Cores
	// good are those that were. Ranges of a download would read every bundle again otherwise, only to know that.
	good *lru.Cache // bundleKey to nothing
}

// maxGood is how many bundles are remembered, at some 200 bytes each.
const maxGood = 16 << 10

type bundleKey struct{ namespace, name, sha256 string }

func newBundles(cores Cores) *bundles { return &bundles{cores, lru.New(maxGood)} }

func keyOf(r *v1alpha1.CoreDump) bundleKey {
	return bundleKey{r.Namespace, r.Name, r.Status.Context.SHA256}
}

// checkAll reads the contexts of the dumps and tells for each why it cannot be served, with "" where it can. A context that is lost must not
// take its core with it: what is left out has to be known before the archive is laid out, as its length is promised then. Nothing of
// what is read is kept but that it was good. The error is that of a store that is away.
func (b *bundles) checkAll(ctx context.Context, records []*v1alpha1.CoreDump) ([]string, error) {
	whys := make([]string, len(records))
	checks, ctx := errgroup.WithContext(ctx)
	checks.SetLimit(contextChecks)
	for i, r := range records {
		if r.Status.Context == nil {
			continue
		}
		if _, ok := b.good.Get(keyOf(r)); ok {
			continue
		}
		checks.Go(func() (err error) {
			whys[i], err = checkContext(ctx, b.cores, r)
			if err == nil && whys[i] == "" {
				b.good.Add(keyOf(r), nil)
			}
			return err
		})
	}
	return whys, checks.Wait()
}

func checkContext(ctx context.Context, cores Cores, r *v1alpha1.CoreDump) (why string, err error) {
	in, err := cores.OpenContext(ctx, r)
	if err == nil {
		_, err = io.Copy(io.Discard, in)
		in.Close()
	}
	switch {
	case err == nil:
		return "", nil
	case errors.Is(err, storage.ErrNotFound):
		why = "it is missing in the object store"
	case errors.Is(err, storage.ErrCorrupt):
		why = "what is in the object store is not what was put there"
	case errors.Is(err, storage.ErrDenied):
		why = "the object store refuses access to it"
	default:
		return "", err
	}
	countCorrupt(err)
	klog.FromContext(ctx).Error(err, "A context cannot be served", "namespace", r.Namespace, "name", r.Name)
	return why, nil
}

// contexts gives the files of contexts to one reader of an archive. It holds one bundle at a time, at most bundle.MaxSize bytes, from the first of its
// files to the last.
type contexts struct {
	bundles *bundles
	of      *v1alpha1.CoreDump
	files   []bundle.File
}

// beside gives the files of the archive that are beside the core of the name: those of the context, or one that says why there are none.
func (c *contexts) beside(r *v1alpha1.CoreDump, name, why string) []tarball.File {
	about := r.Status.Context
	if about == nil {
		return nil
	}
	if why != "" {
		text := fmt.Appendf(nil, "The context of this core dump cannot be served: %s. The core is not affected.\n", why)
		return []tarball.File{tarball.Bytes(name+".context/"+contextError, r.Spec.Process.Time.Time, text)}
	}
	files := make([]tarball.File, 0, len(about.Files))
	for i, f := range about.Files {
		files = append(files, tarball.File{
			Name: name + ".context/" + f.Name, Size: f.Size, ModTime: r.Spec.Process.Time.Time,
			Open: func(ctx context.Context) (io.ReadCloser, error) { return c.open(ctx, r, i) },
			ID:   "context:" + about.SHA256 + " " + f.Name,
		})
	}
	return files
}

func (c *contexts) open(ctx context.Context, r *v1alpha1.CoreDump, i int) (io.ReadCloser, error) {
	if c.of != r {
		c.of, c.files = nil, nil
		files, err := c.read(ctx, r)
		if err != nil {
			c.bundles.good.Remove(keyOf(r)) // the next download leaves it out
			return nil, fmt.Errorf("read the context of %s: %w", r.Name, err)
		}
		c.of, c.files = r, files
	}
	data := c.files[i].Data
	if i == len(c.files)-1 {
		c.of, c.files = nil, nil
	}
	return inMemory(data), nil
}

// read decodes the bundle, whose bytes are those of the record when it returns, and its files those that the record lists.
func (c *contexts) read(ctx context.Context, r *v1alpha1.CoreDump) ([]bundle.File, error) {
	in, err := c.bundles.cores.OpenContext(ctx, r)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	files, err := bundle.Decode(in)
	if err == nil {
		_, err = io.Copy(io.Discard, in) // the sum is compared at the end
	}
	if err != nil {
		return nil, err
	}
	same := func(f bundle.File, listed v1alpha1.ContextFile) bool {
		return f.Name == listed.Name && int64(len(f.Data)) == listed.Size
	}
	if !slices.EqualFunc(files, r.Status.Context.Files, same) {
		return nil, fmt.Errorf("%w: its files are not those of its record", storage.ErrCorrupt)
	}
	return files, nil
}

func inMemory(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }
