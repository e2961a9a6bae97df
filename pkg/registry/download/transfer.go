// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/access"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/tarball"
)

const (
	// maxDumps and maxFiles bound an archive, because all that is in it is laid out in memory.
	maxDumps = 10_000
	maxFiles = 200_000
	// selectTimeout bounds the time until it is known what is asked for. The stream itself has no deadline.
	selectTimeout = 60 * time.Second
	// probe is how much of an archive is read before the answer begins. It reaches into the first core, behind its tar header.
	probe = 1024
	// buffer is between the archive and the compressor.
	buffer = 64 << 10
)

// transfer is one download.
type transfer struct {
	server *Server
	object Object
	start  time.Time

	format    string
	dumps     int
	size      int64 // of the cores in bytes
	committed bool  // the answer has begun: there is no way back to a Status
	client    *client
}

// serve answers the request. What it returns before committed is a Status.
func (t *transfer) serve(w http.ResponseWriter, req *http.Request) error {
	ctx := req.Context()
	if err := t.authorize(ctx); err != nil {
		return t.status(ctx, err)
	}
	q, err := ParseQuery(req.URL.RawQuery, req.Header.Get("Accept"), t.object.Params, t.server.Now())
	if err != nil {
		return err
	}
	t.format = q.Format.Name
	release, ok := t.server.acquire()
	if !ok {
		rejected.Inc()
		return status.TooManyDownloads(t.server.MaxConcurrent)
	}
	defer release()

	records, err := t.find(ctx, q)
	if err != nil {
		return t.status(ctx, err)
	}
	archive, err := t.layOut(ctx, records)
	if err != nil {
		return t.status(ctx, err)
	}
	source := newSource(ctx, archive, t.server.StallTimeout)
	defer source.Close()
	in := bufio.NewReaderSize(source, buffer)
	if _, err := in.Peek(probe); err != nil && err != io.EOF {
		return t.status(ctx, err)
	}
	t.client = &client{w: w, rc: http.NewResponseController(w), stall: t.server.StallTimeout}
	if err := t.client.lift(nil); err != nil { // a connection without deadlines would not be safe from clients that stand still
		return t.status(ctx, err)
	}
	t.annotate(ctx)
	t.headers(w, q.Format, archive.Size())
	t.committed = true
	w.WriteHeader(http.StatusOK)
	if req.Method == http.MethodHead {
		return t.client.finish()
	}
	return t.stream(q.Format, in)
}

// authorize asks for the right to dump once more. By the name dump the request itself has been authorized for it; by the name proxy,
// which kube-apiserver does not cut off, it has been authorized for that. So dump alone gates the bytes.
func (t *transfer) authorize(ctx context.Context) error {
	a, err := access.Attributes(ctx)
	if err != nil {
		return err
	}
	decision, reason, err := t.server.Authorizer.Authorize(ctx, a)
	switch {
	case decision == authorizer.DecisionAllow:
		return nil
	case err != nil:
		return fmt.Errorf("%w: authorize dump: %w", access.ErrUndecided, err)
	}
	return responsewriters.ForbiddenStatusError(a, reason)
}

func (t *transfer) status(ctx context.Context, err error) error {
	return status.Of(ctx, err, t.object.Resource, t.object.Name)
}

func (t *transfer) find(ctx context.Context, q Query) ([]*v1alpha1.CoreDump, error) {
	ctx, cancel := context.WithTimeout(ctx, selectTimeout)
	defer cancel()
	records, err := t.object.Select(ctx, q)
	if err == nil && len(records) > maxDumps {
		err = badRequest("%d core dumps are asked for: an archive has at most %d; narrow it with container, uid, since or latest", len(records), maxDumps)
	}
	n := 0
	for _, r := range records {
		if n += 2; r.Status.Context != nil {
			n += len(r.Status.Context.Files)
		}
	}
	if err == nil && n > maxFiles {
		err = badRequest("%d core dumps of %d files are asked for: an archive has at most %d files; narrow it with container, uid, since or latest", len(records), n, maxFiles)
	}
	return records, err
}

func (t *transfer) layOut(ctx context.Context, records []*v1alpha1.CoreDump) (*tarball.Archive, error) {
	ctx, cancel := context.WithTimeout(ctx, selectTimeout)
	defer cancel()
	whys, err := checkContexts(ctx, t.server.Cores, records)
	if err != nil {
		return nil, err
	}
	files, err := files(t.server.Cores, records, whys)
	if err != nil {
		return nil, err
	}
	t.dumps = len(records)
	for _, r := range records {
		t.size += r.Status.Size
	}
	return tarball.New(files)
}

// annotate tells the audit log what leaves, before it does.
func (t *transfer) annotate(ctx context.Context) {
	audit.AddAuditAnnotations(ctx,
		"coredump.example.io/dumps", strconv.Itoa(t.dumps),
		"coredump.example.io/format", t.format,
		"coredump.example.io/bytes", strconv.FormatInt(t.size, 10),
	)
}

func (t *transfer) headers(w http.ResponseWriter, f Format, size int64) {
	h := w.Header()
	h.Set("Content-Type", f.MediaType)
	// The object's name is a DNS name; nothing else goes into the header.
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s.%s"`, t.object.Name, f.Name))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if f.Codec == "" {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
}

// stream sends the archive, compressed. The compressor is finished only after the archive has ended well: without
// its trailer the client's decompressor notices too.
func (t *transfer) stream(f Format, in io.Reader) error {
	out, err := f.Codec.NewWriter(t.client, t.server.Workers)
	if err != nil {
		return err
	}
	// Only Write: zstd's ReadFrom has a data race where reading fails.
	if _, err = io.Copy(struct{ io.Writer }{out}, in); err == nil {
		err = out.Close()
	}
	if err != nil {
		t.client.cut()
		// A compressor that is neither closed nor reset keeps its goroutines. Closing would send its trailer.
		if z, ok := out.(interface{ Reset(io.Writer) }); ok {
			z.Reset(io.Discard)
			_ = out.Close()
		}
		// A client that went away is why the compressor failed, and perhaps why reading was cancelled.
		return cmp.Or(t.client.failure(), err)
	}
	return t.client.finish()
}
