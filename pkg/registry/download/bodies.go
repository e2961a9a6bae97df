// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"context"

	"golang.org/x/sync/errgroup"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/storage"
)

// bodyChecks is how many bodies are asked for at a time before the answer begins.
const bodyChecks = 16

// checkBodies compares the bodies of the dumps with their records, as far as that is possible without reading them. What is not as its record says
// is a Status then, and not a download that breaks off.
func checkBodies(ctx context.Context, cores Cores, records []*v1alpha1.CoreDump) ([]storage.BodyInfo, error) {
	infos := make([]storage.BodyInfo, len(records))
	checks, ctx := errgroup.WithContext(ctx)
	checks.SetLimit(bodyChecks)
	for i, r := range records {
		checks.Go(func() (err error) {
			infos[i], err = cores.CheckBody(ctx, r)
			return err
		})
	}
	return infos, checks.Wait()
}
