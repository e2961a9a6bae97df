// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/capture/host"
	"example.io/coredump/pkg/capture/socket"
	"example.io/coredump/pkg/capture/taker"
	"example.io/coredump/pkg/tell"
)

// handshake is how long the kernel may take for a step of the protocol.
const handshake = 10 * time.Second

// listen takes dumps in mode socket: the listener is there before the kernel is told of it.
func (k *kernel) listen(ctx context.Context) error {
	o := &k.config.kernel
	h := o.host()
	takes, err := h.TakesSockets()
	if err != nil {
		return err
	}
	if !takes {
		return errors.New("--capture=socket: this kernel does not deliver dumps to a socket (Linux 6.17 does): use --capture=pipe")
	}
	pattern, err := host.SocketPattern(o.socket)
	if err != nil {
		return fmt.Errorf("--core-socket: %w", err)
	}
	l, err := socket.Listen(o.socket)
	if err != nil {
		return err
	}
	t := &taker.Taker{
		Spool: k.spool, Config: k.capture, Judge: k.witness, Namespaces: h.Namespaces,
		Original: func() string {
			original, err := h.Original()
			if err != nil {
				klog.FromContext(ctx).Error(err, "The handler that the host had before is not known")
			}
			return original.Values[host.CorePattern]
		},
		Forwarded: func(ctx context.Context, optedOut bool) {
			if !optedOut { // the verdict has been told
				k.teller.Forwarded(ctx, captureSocket, tell.ForwardedHost)
			}
		},
		Failed: func(ctx context.Context, err error) { k.teller.Failed(ctx, captureSocket, err) },
	}
	server := &socket.Server{
		Handle: t.Handle, Concurrent: o.maxCaptures, Waiting: 4 * o.maxCaptures, WaitTimeout: o.answer, Handshake: handshake,
		Refused: func(why socket.Refusal, err error) {
			socketRefused.WithLabelValues(string(why)).Inc()
			klog.FromContext(ctx).V(2).Info("A connection to the socket for dumps was refused", "why", why, "err", err)
		},
	}
	loops, ctx := errgroup.WithContext(ctx)
	loops.Go(func() error { return server.Serve(ctx, l) })
	loops.Go(func() error { return k.keepSettings(ctx, h, func() (string, error) { return pattern, nil }) })
	return loops.Wait()
}
