// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"example.io/coredump/pkg/storage/storagetest"
)

const killed = 50 // uploads

// TestKilledAtRandomMomentsNothingIsLostOrDoubled kills the node handler again and again while it uploads. Whatever the moment, after
// the last start every dump is in the store exactly once.
func TestKilledAtRandomMomentsNothingIsLostOrDoubled(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		killAtRandom(t, "file://"+t.TempDir(), nil, 1<<20)
	})
	t.Run("s3", func(t *testing.T) {
		s3 := storagetest.StartS3(t)
		s3.Setenv(t)
		killAtRandom(t, s3.URL("dumps")+"&part-size=5Mi&concurrency=1", s3.Env(), 11<<20) // three parts
	})
}

func killAtRandom(t *testing.T, url string, env []string, size int) {
	d := &dumps{dir: t.TempDir()}
	args := []string{"--store=" + url, "--workers=2", "--compression=none", "--settle=10ms", d.dir}
	begin := func() *handler {
		h := spawn(t, env, args...)
		h.eventually(t, "it has started", func() bool { return strings.Contains(h.output.String(), "Starting") })
		return h
	}
	// How long the upload of one takes is how far the moments may spread.
	d.drop(t, killed, size)
	h, start := begin(), time.Now()
	h.eventually(t, "nothing is left", func() bool { return len(d.left(t)) == 0 })
	whole := time.Since(start)
	h.kill()

	rnd, hits, existed, before := randomly(t), 0, 0, 0
	for n := range killed {
		d.drop(t, n, size/2+rnd.IntN(size/2))
		h := begin()
		time.Sleep(time.Duration(rnd.Int64N(int64(2 * whole)))) // the random moment
		h.kill()
		existed += strings.Count(h.output.String(), "already")
		if now := halves(t, url); now > before {
			hits++
			before = now
		}
	}
	left := len(d.left(t))
	h = begin()
	h.eventually(t, "nothing is left", func() bool { return len(d.left(t)) == 0 })
	existed += strings.Count(h.output.String(), "already")
	t.Logf("of %d kills %d left something half in the store, and %d came between commit and removal; %d dumps were left on the node", killed, hits, existed, left)
	if hits == 0 {
		t.Error("no kill hit an upload: the test shows nothing")
	}
	d.check(t, url)
}

// TestAStoreThatIsKilledLosesNothing kills the S3 server again and again while the node handler uploads.
func TestAStoreThatIsKilledLosesNothing(t *testing.T) {
	s3 := storagetest.StartS3(t)
	s3.Setenv(t)
	url := s3.URL("dumps") + "&part-size=5Mi&concurrency=1&timeout=2s&attempts=1"
	d := &dumps{dir: t.TempDir()}
	h := spawn(t, s3.Env(), "--store="+url, "--workers=2", "--compression=none", "--settle=10ms", "--retry-max-backoff=200ms", d.dir)
	rnd := randomly(t)
	for n := range killed {
		d.drop(t, n, 5<<20+rnd.IntN(6<<20))
		if n%5 == 4 {
			time.Sleep(time.Duration(rnd.Int64N(int64(200 * time.Millisecond)))) // the random moment
			s3.Stop()
			time.Sleep(time.Duration(rnd.Int64N(int64(300 * time.Millisecond)))) // how long it is away
			s3.Start()
		}
	}
	h.eventually(t, "nothing is left", func() bool { return len(d.left(t)) == 0 })
	if !strings.Contains(h.output.String(), "An upload failed") {
		t.Error("no kill hit an upload: the test shows nothing")
	}
	d.check(t, url)
}

// randomly gives moments that are others every time, and says how to have them again.
func randomly(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
