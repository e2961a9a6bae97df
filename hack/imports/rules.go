// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

// rule says what packages must not depend on. The tests of a package are free to import what they like.
type rule struct {
	// packages that the rule is for, relative to the module; "x/..." is x and everything below it.
	packages []string
	// except are packages among them that the rule is not for.
	except []string
	// forbidden import paths, with the same "...". Those of this module are written "./pkg/x".
	forbidden []string
	// directly is for rules about who may name a package, not who may have it among the dependencies of its dependencies.
	directly bool
	// allowed are those among the forbidden that are allowed after all.
	allowed []string
	because string
}

// rules are the directions in which dependencies point (docs/design.md, "Packages").
var rules = []rule{
	{
		packages:  []string{"pkg/storage"},
		forbidden: []string{"k8s.io/apiserver/...", "github.com/aws/...", "./pkg/storage/..."},
		allowed:   []string{"./pkg/storage"},
		because:   "storage is dumps over any bucket: it knows neither who serves them nor which driver is below it",
	},
	{
		packages:  []string{"..."},
		except:    []string{"pkg/storage/s3/...", "hack/...", "test/..."},
		forbidden: []string{"github.com/aws/..."},
		directly:  true,
		because:   "S3 is one driver among several: everybody else sees a storage.Bucket",
	},
	{
		packages:  []string{"pkg/registry/...", "pkg/tarball/...", "pkg/apiserver/..."},
		forbidden: []string{"github.com/aws/...", "./pkg/storage/s3/...", "./pkg/storage/buckets/..."},
		because:   "what serves dumps gets its store from the composition root in cmd",
	},
	{
		packages:  []string{"pkg/tarball/...", "pkg/bundle/...", "pkg/corefile/...", "pkg/crash", "pkg/retention"},
		forbidden: []string{"k8s.io/apiserver/...", "k8s.io/client-go/..."},
		because:   "these are pure: bytes and values in, bytes and values out, so that they can be fuzzed and tested by property",
	},
	{
		packages:  []string{"pkg/judge/...", "pkg/podcopy/..."},
		forbidden: []string{"k8s.io/api/...", "k8s.io/apimachinery/...", "k8s.io/apiserver/...", "k8s.io/client-go/...", "github.com/aws/..."},
		because:   "who decides about a crash, and what writes into a container, must be understood by themselves: names and descriptors in, decisions out",
	},
	{
		packages:  []string{"pkg/tarball/...", "pkg/seekable/...", "pkg/registry/httprange"},
		forbidden: []string{"k8s.io/...", "sigs.k8s.io/...", "./..."},
		allowed:   []string{"./pkg/tarball/...", "./pkg/seekable/...", "./pkg/registry/httprange"},
		because:   "formats and protocols of others know nothing of dumps in a bucket or of an API",
	},
	{
		packages:  []string{"pkg/apis/..."},
		forbidden: []string{"./..."},
		allowed:   []string{"./pkg/apis/..."},
		because:   "clients of others import the types, and nothing of ours beside",
	},
	{
		packages:  []string{"cmd/nodehandler/...", "cmd/gc/..."},
		forbidden: []string{"k8s.io/apiserver/..."},
		because:   "the machinery of an API server is large, and a program that runs on every node serves no API",
	},
	{
		packages:  []string{"pkg/fetch"},
		forbidden: []string{"k8s.io/...", "sigs.k8s.io/...", "github.com/aws/...", "./..."},
		allowed:   []string{"./pkg/fetch", "./pkg/seekable"},
		because:   "it knows HTTP, zstd and files: any server that has ranges will do, and so will a test's",
	},
	{
		packages:  []string{"cmd/kubectl-coredump/..."},
		forbidden: []string{"k8s.io/apiserver/...", "github.com/aws/...", "./pkg/storage/..."},
		allowed:   []string{"./pkg/storage"},
		because:   "people install it: it is a client of the API, and knows of the store only what names look like",
	},
	{
		packages:  []string{"cmd/corepipe/..."},
		forbidden: []string{"k8s.io/...", "sigs.k8s.io/...", "github.com/aws/..."},
		because:   "it runs on the host for every crash: it starts in milliseconds and stays small",
	},
	{
		packages:  []string{"pkg/capture/...", "pkg/spool", "pkg/corefile"},
		forbidden: []string{"k8s.io/...", "sigs.k8s.io/...", "github.com/aws/..."},
		because:   "corepipe links them, and what takes a dump must not wait for anything that is not on the node",
	},
	{
		packages:  []string{"cmd/...", "pkg/..."},
		except:    []string{"pkg/capture/kerneltest"},
		forbidden: []string{"./pkg/capture/kerneltest"},
		because:   "what we ship contains nothing that is there for tests only",
	},
	{
		packages:  []string{"pkg/cgroup"},
		forbidden: []string{"k8s.io/...", "sigs.k8s.io/...", "github.com/aws/...", "./..."},
		allowed:   []string{"./pkg/cgroup"},
		because:   "corepipe links it, and it is pure: a text in, an identity out",
	},
	{
		packages:  []string{"cmd/...", "pkg/..."},
		forbidden: []string{"./test/...", "./hack/..."},
		because:   "what we ship contains nothing that is there for tests only",
	},
	{
		packages:  []string{"pkg/..."},
		forbidden: []string{"./cmd/..."},
		because:   "cmd composes packages, so it is above them",
	},
}
