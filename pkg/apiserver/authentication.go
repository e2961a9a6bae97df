// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/x509"
	"errors"
	"net/http"
	"strings"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapiserver "k8s.io/apiserver/pkg/server"
	certutil "k8s.io/client-go/util/cert"
)

// RejectAnonymous lets nobody in without a name, except to the probes. Delegated authentication cannot be told to.
func RejectAnonymous(next authenticator.Request) authenticator.Request {
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		resp, ok, err := next.AuthenticateRequest(req)
		if err == nil && ok && resp.User.GetName() == user.Anonymous && !isProbe(req.URL.Path) {
			return nil, false, nil
		}
		return resp, ok, err
	})
}

func isProbe(path string) bool {
	for _, probe := range []string{"/livez", "/readyz", "/healthz"} {
		if path == probe || strings.HasPrefix(path, probe+"/") {
			return true
		}
	}
	return false
}

// ErrImpersonation is returned where anybody with a client certificate could be anybody.
var ErrImpersonation = errors.New("every client certificate of the cluster may speak for any user: the certificate authority of the front proxy " +
	"(requestheader-client-ca-file) also signs client certificates (client-ca-file), and requestheader-allowed-names is empty. Set " +
	"--requestheader-allowed-names of kube-apiserver to the common name of its proxy client certificate, or give the front proxy an authority of its own")

// CheckFrontProxy refuses a configuration in which the headers that name the user can be set by who has any certificate of the
// cluster.
func CheckFrontProxy(c *genericapiserver.Config) error {
	proxy := c.Authentication.RequestHeaderConfig
	if proxy == nil || proxy.CAContentProvider == nil || len(proxy.AllowedClientNames.Value()) > 0 || c.SecureServing == nil || c.SecureServing.ClientCA == nil {
		return nil
	}
	// ClientCA is the union of both authorities: what is in both is there twice.
	seen := map[string]int{}
	for _, cert := range certificates(c.SecureServing.ClientCA.CurrentCABundleContent()) {
		seen[string(cert.Raw)]++
	}
	for _, cert := range certificates(proxy.CAContentProvider.CurrentCABundleContent()) {
		if seen[string(cert.Raw)] > 1 {
			return ErrImpersonation
		}
	}
	return nil
}

func certificates(bundle []byte) []*x509.Certificate {
	certs, err := certutil.ParseCertsPEM(bundle)
	if err != nil {
		return nil // the authenticators refuse it too
	}
	return certs
}
