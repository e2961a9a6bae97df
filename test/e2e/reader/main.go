// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command reader says the SHA-256 of each file that matches a pattern, once for each length that it is seen with, until it is told to end. It stands for a person
// in an ephemeral container who reads a copy of a dump.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	tick := time.NewTicker(200 * time.Millisecond)
	said := map[string]int64{}
	for {
		files, _ := filepath.Glob(os.Args[1])
		for _, file := range files {
			sum, n, err := sumOf(file)
			if before, known := said[file]; known && before == n {
				continue
			}
			said[file] = n
			if err != nil {
				fmt.Println(file, err)
				continue
			}
			fmt.Println(file, sum, n)
		}
		select {
		case <-end:
			return
		case <-tick.C:
		}
	}
}

func sumOf(path string) (string, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", -1, err
	}
	defer file.Close()
	h := sha256.New()
	n, err := io.Copy(h, file)
	return hex.EncodeToString(h.Sum(nil)), n, err
}
