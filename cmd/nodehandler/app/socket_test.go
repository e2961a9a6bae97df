// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"testing"
	"time"
)

func TestADumpThatIsBeingTakenHasAGracePeriodWhenTheProgramStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	long, cancel := lasting(ctx, time.Hour)
	defer cancel()
	short, cancelShort := lasting(ctx, time.Millisecond)
	defer cancelShort()
	stop()
	<-short.Done()
	if long.Err() != nil {
		t.Errorf("it ended at once: %v", long.Err())
	}
	cancel()
	<-long.Done()
}
