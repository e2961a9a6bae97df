// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command constant is the least that a server of downloads behind kube-apiserver can do, to compare ours with: it sends as many bytes as the query asks
// for, all of them the same, over TLS. It reads nothing from anywhere and asks nobody who the client is.
//
//	constant ADDRESS CERTIFICATE KEY
//	GET /apis/constant.example.io/v1/bytes?n=1073741824
package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
)

// chunk is as much as net/http writes at once where it copies a file.
const chunk = 32 << 10

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: constant ADDRESS CERTIFICATE KEY")
		os.Exit(2)
	}
	http.HandleFunc("GET /apis/constant.example.io/v1/bytes", send)
	// What makes an APIService available.
	http.HandleFunc("GET /apis/constant.example.io/v1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"constant.example.io/v1","resources":[]}`)
	})
	if err := http.ListenAndServeTLS(os.Args[1], os.Args[2], os.Args[3], nil); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "constant:", err)
		os.Exit(1)
	}
}

func send(w http.ResponseWriter, req *http.Request) {
	n, err := strconv.ParseInt(req.URL.Query().Get("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "n must be a number of bytes", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	for b := make([]byte, chunk); n > 0; n -= chunk {
		if _, err := w.Write(b[:min(n, chunk)]); err != nil {
			return
		}
	}
}
