// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"context"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/bundle"
	"example.io/coredump/pkg/storage"
)

// gathering bounds the time that it may take to gather a context: the core is worth more than what is known beside it.
const gathering = 10 * time.Second

// gather gives the context bundle of the dump, nil where there is none. Whatever goes wrong, the dump goes without it.
func (a *attempt) gather(ctx context.Context, o *Opened) []byte {
	if o.Context == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, gathering)
	defer cancel()
	data, err := pack(bounded, o.Context)
	a.move()
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "A dump goes without its context", "file", a.item.dump.Path())
	}
	return data
}

func pack(ctx context.Context, files func(context.Context) ([]bundle.File, error)) ([]byte, error) {
	gathered, err := files(ctx)
	if err != nil {
		return nil, fmt.Errorf("gather: %w", err)
	}
	if len(gathered) == 0 {
		return nil, nil
	}
	data, err := bundle.Encode(gathered)
	if err != nil {
		return nil, err
	}
	if len(data) > storage.MaxContextSize {
		return nil, fmt.Errorf("a bundle of %d bytes: at most %d are stored", len(data), storage.MaxContextSize)
	}
	return data, nil
}
