// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

// pageSize is how many dumps are asked for at a time.
const pageSize = 500

// all lists all dumps that fit, page by page.
func (s *session) all(ctx context.Context, namespace string, o metav1.ListOptions) (dumps []v1alpha1.CoreDump, version string, err error) {
	p := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		list, err := s.dumps.CoredumpV1alpha1().CoreDumps(namespace).List(ctx, o)
		if err == nil {
			version = list.ResourceVersion
		}
		return list, err
	})
	p.PageSize = pageSize
	err = p.EachListItem(ctx, o, func(obj runtime.Object) error {
		d, ok := obj.(*v1alpha1.CoreDump)
		if !ok {
			return fmt.Errorf("the server lists a %T", obj)
		}
		dumps = append(dumps, *d)
		return nil
	})
	return dumps, version, err
}

// choice says which dumps of a pod are meant.
type choice struct {
	container, uid string
	latest         int // 0 means all
}

// addFlags adds those that choose among the dumps of a pod.
func (c *choice) addFlags(f *pflag.FlagSet) {
	f.StringVarP(&c.container, "container", "c", "", "of this container of the pod")
	f.StringVar(&c.uid, "uid", "", "of the pod with this UID, for a pod name that was used again")
}

// find gives the dumps that the argument means, a dump or a pod, the newest first; at least one.
func (s *session) find(ctx context.Context, arg string, c choice) ([]v1alpha1.CoreDump, error) {
	if key, err := storage.ParseName(s.namespace, arg); err == nil {
		if c.container != "" || c.uid != "" {
			return nil, usage("%s is one dump: --container and --uid choose among those of a pod", arg)
		}
		if err := s.need(ctx, s.namespace, mayGet.of(arg)); err != nil {
			return nil, err
		}
		d, err := s.dumps.CoredumpV1alpha1().CoreDumps(s.namespace).Get(ctx, key.Name(), metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		d.Namespace, d.Name = s.namespace, key.Name() // it is what was asked for that is asked for again
		return []v1alpha1.CoreDump{*d}, nil
	}
	if !storage.ValidPod(arg) {
		return nil, usage("%q is neither the name of a dump, <pod>.<container>.<id>, nor of a pod", arg)
	}
	if err := s.need(ctx, s.namespace, mayList); err != nil {
		return nil, err
	}
	selector := fields.Set{"spec.podName": arg}
	if c.container != "" {
		selector["spec.containerName"] = c.container
	}
	if c.uid != "" {
		selector["spec.podUID"] = c.uid
	}
	dumps, _, err := s.all(ctx, s.namespace, metav1.ListOptions{FieldSelector: selector.AsSelector().String()})
	if err != nil {
		return nil, err
	}
	for _, d := range dumps {
		if _, err := storage.ParseName(s.namespace, d.Name); err != nil {
			return nil, fmt.Errorf("the server lists a dump of a name that cannot be: %w", err)
		}
	}
	if len(dumps) == 0 {
		return nil, fmt.Errorf("%w: pod %s in namespace %s has no core dumps%s. kubectl coredump list shows what there is", errNotFound, arg, s.namespace, c)
	}
	sortDumps(dumps, "time")
	slices.Reverse(dumps)
	if c.latest > 0 && c.latest < len(dumps) {
		dumps = dumps[:c.latest]
	}
	return dumps, nil
}

func (c choice) String() string {
	s := ""
	if c.container != "" {
		s += " of container " + c.container
	}
	if c.uid != "" {
		s += " of UID " + c.uid
	}
	return s
}

// sortings are what --sort-by knows.
var sortings = map[string]func(a, b *v1alpha1.CoreDump) int{
	"time": func(a, b *v1alpha1.CoreDump) int { return a.Spec.Process.Time.Compare(b.Spec.Process.Time.Time) },
	"size": func(a, b *v1alpha1.CoreDump) int { return cmp.Compare(a.Status.Size, b.Status.Size) },
	"name": func(*v1alpha1.CoreDump, *v1alpha1.CoreDump) int { return 0 },
	"pod":  func(a, b *v1alpha1.CoreDump) int { return strings.Compare(a.Spec.PodName, b.Spec.PodName) },
}

// sortDumps sorts by what a name of sortings says, and what is equal by namespace and name.
func sortDumps(dumps []v1alpha1.CoreDump, by string) {
	slices.SortFunc(dumps, func(a, b v1alpha1.CoreDump) int {
		return cmp.Or(sortings[by](&a, &b), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// parseSince understands a time, or a span of time back from now: 90m, 24h, 7d.
func parseSince(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); err == nil && n < 100_000 {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || d <= 0 {
		return time.Time{}, usage("--since is %q: it must be a span of time like 90m, 24h or 7d, or a time like 2026-01-02T15:04:05Z", s)
	}
	return now.Add(-d), nil
}
