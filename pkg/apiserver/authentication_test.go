// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"errors"
	"testing"

	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	certutil "k8s.io/client-go/util/cert"
)

func authority(t *testing.T, name string) []byte {
	cert, _, err := certutil.GenerateSelfSignedCertKey(name, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestFrontProxyThatAnybodyCanBeIsRefused(t *testing.T) {
	cluster, proxy := authority(t, "cluster"), authority(t, "proxy")
	for _, test := range []struct {
		name            string
		clients, proxys []byte
		allowed         []string
		refused         bool
	}{
		{"authorities of their own", cluster, proxy, nil, false},
		{"one authority, names", cluster, cluster, []string{"front-proxy-client"}, false},
		{"one authority, no names", cluster, cluster, nil, true},
		{"one authority among others, no names", bytes.Join([][]byte{proxy, cluster}, nil), cluster, nil, true},
		{"no client authority", nil, proxy, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &genericapiserver.Config{SecureServing: &genericapiserver.SecureServingInfo{}}
			for _, bundle := range [][]byte{test.clients, test.proxys} {
				if bundle == nil {
					continue
				}
				content, err := dynamiccertificates.NewStaticCAContent("test", bundle)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Authentication.ApplyClientCert(content, c.SecureServing); err != nil {
					t.Fatal(err)
				}
				c.Authentication.RequestHeaderConfig = &authenticatorfactory.RequestHeaderConfig{
					CAContentProvider: content, AllowedClientNames: headerrequest.StaticStringSlice(test.allowed),
				}
			}
			if err := CheckFrontProxy(c); errors.Is(err, ErrImpersonation) != test.refused {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := CheckFrontProxy(&genericapiserver.Config{}); err != nil {
		t.Errorf("without a front proxy: %v", err)
	}
}
