// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"sync"
	"testing"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"
)

// trail keeps the events of an audit log.
type trail struct {
	mu     sync.Mutex
	events []auditinternal.Event
}

func (l *trail) ProcessEvents(events ...*auditinternal.Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		l.events = append(l.events, *e.DeepCopy())
	}
	return true
}

func (*trail) Run(<-chan struct{}) error { return nil }
func (*trail) Shutdown()                 {}
func (*trail) String() string            { return "trail" }

func TestAuditLogSaysWhatLeft(t *testing.T) {
	log := &trail{}
	f := start(t, func(c *Config) {
		c.Generic.AuditBackend = log
		c.Generic.AuditPolicyRuleEvaluator = policy.NewPolicyRuleEvaluator(&auditinternal.Policy{Rules: []auditinternal.PolicyRule{{Level: auditinternal.LevelMetadata}}})
	})
	f.put("shop", "web-0", "app", 1, []byte("12345"))
	f.put("shop", "web-0", "app", 2, []byte("123"))
	f.tar("admin", api+"/namespaces/shop/coredumpendpoints/web-0/proxy?format=tar", "")
	want := map[string]string{"coredump.example.io/dumps": "2", "coredump.example.io/format": "tar", "coredump.example.io/bytes": "8"}
	f.eventually("an event with the annotations", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		for _, e := range log.events {
			ok := e.ObjectRef != nil && e.ObjectRef.Subresource == "proxy" && e.User.Username == "admin"
			for k, v := range want {
				ok = ok && e.Annotations[k] == v
			}
			if ok {
				return true
			}
		}
		return false
	})
}
