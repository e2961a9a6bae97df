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
	"example.io/coredump/pkg/registry/httprange"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/storage"
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
	size      int64            // of the cores in bytes
	answer    httprange.Answer // of code 0 until it is known
	committed bool             // the answer has begun: there is no way back to a Status
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
	release, err := t.server.slots.Take(ctx)
	if err != nil {
		rejected.Inc()
		return t.server.full(err)
	}
	defer release()
	inflight.Inc()
	defer inflight.Dec()

	records, err := t.find(ctx, q)
	if err != nil {
		return t.status(ctx, err)
	}
	c, err := t.layOut(ctx, q.Format, records)
	if err != nil {
		return t.status(ctx, err)
	}
	t.answer = httprange.Decide(req.Method, req.Header, c.representation())
	return t.send(w, req, q.Format, c)
}

// send gives the answer that was decided on.
func (t *transfer) send(w http.ResponseWriter, req *http.Request, f Format, c content) error {
	ctx := req.Context()
	switch t.answer.Code {
	case http.StatusPreconditionFailed:
		return status.PreconditionFailed("the bytes are not, or no longer, those of If-Match; begin anew")
	case http.StatusRequestedRangeNotSatisfiable:
		t.answer.SetHeader(w.Header())
		return status.RangeNotSatisfiable(fmt.Sprintf("no byte is in the range that is asked for; there are %d", c.archive.Size()))
	case http.StatusNotModified:
		t.headers(w, f)
		t.committed = true
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	var err error
	if t.client, err = newClient(w, t.server.StallTimeout); err != nil {
		return t.status(ctx, err)
	}
	defer t.client.release()
	if req.Method == http.MethodHead {
		t.headers(w, f)
		t.committed = true
		w.WriteHeader(http.StatusOK)
		return t.client.finish()
	}
	source, err := newSource(ctx, c.archive, t.answer.Offset, t.answer.Length, t.server.StallTimeout)
	if err != nil {
		return t.status(ctx, err)
	}
	defer source.Close()
	in := bufio.NewReaderSize(source, buffer)
	if _, err := in.Peek(probe); err != nil && err != io.EOF {
		return t.status(ctx, err)
	}
	t.annotate(ctx)
	t.headers(w, f)
	t.committed = true
	w.WriteHeader(t.answer.Code)
	if c.codec == storage.CodecNone {
		return t.pass(in, source)
	}
	return t.compress(c.codec, in)
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
	countCorrupt(err)
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

// annotate tells the audit log what leaves, before it does.
func (t *transfer) annotate(ctx context.Context) {
	pairs := []string{
		"coredump.example.io/dumps", strconv.Itoa(t.dumps),
		"coredump.example.io/format", t.format,
		"coredump.example.io/bytes", strconv.FormatInt(t.size, 10),
	}
	if r := t.span(); r != "" {
		pairs = append(pairs, "coredump.example.io/range", r)
	}
	audit.AddAuditAnnotations(ctx, pairs...)
}

// span is the range that is sent, as <first byte>-<last byte>; "" where it is the whole.
func (t *transfer) span() string {
	if t.answer.Code != http.StatusPartialContent {
		return ""
	}
	return fmt.Sprintf("%d-%d", t.answer.Offset, t.answer.Offset+t.answer.Length-1)
}

func (t *transfer) headers(w http.ResponseWriter, f Format) {
	h := w.Header()
	t.answer.SetHeader(h)
	h.Set("Cache-Control", "no-store")
	if t.answer.Code == http.StatusNotModified {
		return
	}
	h.Set("Content-Type", f.MediaType)
	// The object's name is a DNS name; nothing else goes into the header.
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s.%s"`, t.object.Name, f.Name))
	h.Set("X-Content-Type-Options", "nosniff")
}

// pass sends what is there. An error is noticed by the length that was promised.
func (t *transfer) pass(in io.Reader, source *source) error {
	a := readAhead(in, source.length)
	defer a.close()
	defer source.cancel(nil) // or what it reads would be waited for
	if err := a.writeTo(t.client); err != nil {
		t.client.cut()
		return cmp.Or(t.client.failure(), err)
	}
	return t.client.finish()
}

// compress sends the archive, compressed. The compressor is finished only after the archive has ended well: without
// its trailer the client's decompressor notices too, or tar does.
func (t *transfer) compress(c storage.Codec, in io.Reader) error {
	out, err := c.NewWriter(t.client, t.server.Workers)
	if err != nil {
		return err
	}
	if _, err = io.Copy(struct{ io.Writer }{out}, in); err == nil {
		err = out.Close()
	}
	if err != nil {
		t.client.cut()
		out.Abort()
		// A client that went away is why the compressor failed, and perhaps why reading was cancelled.
		return cmp.Or(t.client.failure(), err)
	}
	return t.client.finish()
}
