// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package artifacts tests the manifests and policies beside it: what they promise is what they say.
package artifacts

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"example.io/coredump/test/required"
)

const namespace = "coredump-system"

// objects are what an overlay consists of.
type objects []runtime.Object

// overlays are what users apply; they, and the components with them, are built once.
var overlays = []string{"overlays/self-signed", "overlays/cert-manager"}

// build runs "kubectl kustomize" on a directory of a copy of artifacts, in which a certificate has been made, and
// decodes what it prints, strictly. COREDUMP_CONTROLPLANE is the directory with kubectl.
func build(t *testing.T, dir string, components ...string) objects {
	t.Helper()
	return buildWith(t, "", dir, components...)
}

// buildWith is build with more in the user's kustomization.
func buildWith(t *testing.T, more, dir string, components ...string) objects {
	t.Helper()
	assets := os.Getenv("COREDUMP_CONTROLPLANE")
	if assets == "" {
		required.Missing(t, `there is no kubectl; run with COREDUMP_CONTROLPLANE="$(hack/build-tools.sh controlplane)"`)
	}
	work := t.TempDir()
	if err := os.CopyFS(work, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Join(work, "make-certs.sh"), filepath.Join(work, "overlays/self-signed/certs"))
	if len(components) > 0 || more != "" {
		user := filepath.Join(work, "overlays/user")
		text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../" + dir + "]\n" + more
		for i, c := range components {
			if i == 0 {
				text += "components:\n"
			}
			text += "- ../../components/" + c + "\n"
		}
		if err := errors.Join(os.MkdirAll(user, 0o700), os.WriteFile(filepath.Join(user, "kustomization.yaml"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		dir = "overlays/user"
	}
	return decode(t, run(t, filepath.Join(assets, "kubectl"), "kustomize", filepath.Join(work, dir)))
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// decode knows the API's types; of cert-manager's it only knows the names.
func decode(t *testing.T, data []byte) (all objects) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, rbacv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
		schedulingv1.AddToScheme, apiregistrationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(data)))
	buf := make([]byte, 1<<20)
	for {
		n, err := documents.Read(buf)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := utilyaml.Unmarshal(buf[:n], u); err != nil {
			t.Fatal(err)
		}
		if u.GroupVersionKind().Group == "cert-manager.io" {
			all = append(all, u)
			continue
		}
		obj, _, err := decoder.Decode(buf[:n], nil, nil)
		if err != nil {
			t.Errorf("%v\n%s", err, buf[:n])
			continue
		}
		all = append(all, obj)
	}
}

// hashed is the end of a name that kustomize has generated from the contents.
var hashed = regexp.MustCompile(`-[a-z0-9]{10}$`)

// get gives the object of a type and a name, without what kustomize adds to it.
func get[T interface {
	runtime.Object
	GetName() string
}](t *testing.T, all objects, name string) T {
	t.Helper()
	var found []T
	for _, obj := range all {
		if o, ok := obj.(T); ok && (o.GetName() == name || hashed.ReplaceAllString(o.GetName(), "") == name) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects %T %s, want 1", len(found), *new(T), name)
	}
	return found[0]
}

func list[T runtime.Object](all objects) (found []T) {
	for _, obj := range all {
		if o, ok := obj.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// pod is the template of a program.
func pod(t *testing.T, all objects, program string) corev1.PodTemplateSpec {
	t.Helper()
	switch program {
	case "nodehandler":
		return get[*appsv1.DaemonSet](t, all, "coredump-nodehandler").Spec.Template
	case "apiserver":
		return get[*appsv1.Deployment](t, all, "coredump-apiserver").Spec.Template
	}
	return get[*batchv1.CronJob](t, all, "coredump-gc").Spec.JobTemplate.Spec.Template
}

var programs = []string{"nodehandler", "apiserver", "gc"}

func TestEveryOverlayBuildsAndKeepsThePromises(t *testing.T) {
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			all := build(t, overlay)
			checkSecurity(t, all)
			checkAvailability(t, all)
			checkRoles(t, all)
			checkNetwork(t, all)
			checkConfiguration(t, all)
		})
	}
}

func TestEveryComponentBuilds(t *testing.T) {
	for _, component := range []string{"irsa", "file-store"} {
		t.Run(component, func(t *testing.T) {
			all := build(t, "overlays/self-signed", component)
			switch component {
			case "irsa":
				for _, p := range programs {
					if arn := get[*corev1.ServiceAccount](t, all, "coredump-"+p).Annotations["eks.amazonaws.com/role-arn"]; !strings.HasSuffix(arn, ":role/coredump-"+p) {
						t.Errorf("%s: role %q", p, arn)
					}
				}
			case "file-store":
				if url := get[*corev1.ConfigMap](t, all, "coredump").Data["COREDUMP_STORE"]; url != "file:///store" {
					t.Errorf("store %q", url)
				}
				for _, p := range programs {
					spec := pod(t, all, p).Spec
					if !slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool {
						return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly == (p == "apiserver")
					}) || !slices.ContainsFunc(spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/store" && m.ReadOnly == (p == "apiserver") }) {
						t.Errorf("%s: volumes %v, mounts %v", p, spec.Volumes, spec.Containers[0].VolumeMounts)
					}
				}
			}
		})
	}
}

// checkSecurity: what need not be privileged is not, and what must be is so as little as possible.
func checkSecurity(t *testing.T, all objects) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		template := pod(t, all, p)
		spec := template.Spec
		if p != "nodehandler" {
			for _, r := range evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &template.ObjectMeta, &spec) {
				if !r.Allowed {
					t.Errorf("%s is not restricted: %s: %s", p, r.ForbiddenReason, r.ForbiddenDetail)
				}
			}
		}
		c := spec.Containers[0].SecurityContext
		if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
			t.Errorf("%s: %d containers, %d init containers", p, len(spec.Containers), len(spec.InitContainers))
		}
		if c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem {
			t.Errorf("%s: the root file system can be written", p)
		}
		if c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation || c.Privileged != nil {
			t.Errorf("%s: privileges can be had", p)
		}
		if !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s: drops %v", p, c.Capabilities.Drop)
		}
		if want := map[string][]corev1.Capability{"nodehandler": {"DAC_OVERRIDE", "FOWNER", "LEASE", "SETGID", "SETUID"}}[p]; !slices.Equal(c.Capabilities.Add, want) {
			t.Errorf("%s: adds %v, want %v", p, c.Capabilities.Add, want)
		}
		if spec.HostPID || spec.HostNetwork || spec.HostIPC {
			t.Errorf("%s: shares namespaces of the host", p)
		}
		if spec.SecurityContext.SeccompProfile == nil || spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: no seccomp profile", p)
		}
		if p == "nodehandler" {
			checkMounts(t, spec)
		}
		if memory := spec.Containers[0].Resources.Limits.Memory(); memory.IsZero() {
			t.Errorf("%s: no limit on memory", p)
		}
	}
	if limit := pod(t, all, "nodehandler").Spec.Containers[0].Resources.Limits.Memory(); limit.Value() != 128<<20 {
		t.Errorf("nodehandler: limit on memory is %v", limit)
	}
	for _, sa := range list[*corev1.ServiceAccount](all) {
		if sa.AutomountServiceAccountToken == nil || *sa.AutomountServiceAccountToken {
			t.Errorf("%s: every pod that names it gets its token", sa.Name)
		}
	}
}

// checkAvailability: an aggregated API that is not there blocks the deletion of namespaces.
func checkAvailability(t *testing.T, all objects) {
	d := get[*appsv1.Deployment](t, all, "coredump-apiserver")
	if *d.Spec.Replicas != 2 || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
		t.Errorf("%d replicas, %v unavailable", *d.Spec.Replicas, d.Spec.Strategy.RollingUpdate.MaxUnavailable)
	}
	for _, b := range list[*policyv1.PodDisruptionBudget](all) {
		if b.Spec.MinAvailable.IntValue() != 1 || !selects(t, labels.Set(b.Spec.Selector.MatchLabels), d.Spec.Template.Labels) {
			t.Errorf("disruption budget %v", b.Spec)
		}
	}
	spec := d.Spec.Template.Spec
	if len(spec.TopologySpreadConstraints) == 0 {
		t.Error("replicas are not spread")
	}
	const shutdownDelay = 5 * time.Second
	if drain := duration(t, spec.Containers[0].Args, "--drain-timeout="); time.Duration(*spec.TerminationGracePeriodSeconds)*time.Second < drain+shutdownDelay {
		t.Errorf("the pod is killed after %ds, downloads may take %v", *spec.TerminationGracePeriodSeconds, drain)
	}
	node := pod(t, all, "nodehandler").Spec
	if grace := duration(t, node.Containers[0].Args, "--shutdown-grace="); time.Duration(*node.TerminationGracePeriodSeconds)*time.Second <= grace {
		t.Errorf("the node handler is killed after %ds, uploads may take %v", *node.TerminationGracePeriodSeconds, grace)
	}
	cron := get[*batchv1.CronJob](t, all, "coredump-gc").Spec
	if cron.ConcurrencyPolicy != batchv1.ForbidConcurrent {
		t.Errorf("gc: %s", cron.ConcurrencyPolicy)
	}
	if limit := duration(t, pod(t, all, "gc").Spec.Containers[0].Args, "--timeout="); time.Duration(*cron.JobTemplate.Spec.ActiveDeadlineSeconds)*time.Second <= limit {
		t.Errorf("gc is killed after %ds, it may take %v", *cron.JobTemplate.Spec.ActiveDeadlineSeconds, limit)
	}
	for _, p := range programs {
		c := pod(t, all, p).Spec.Containers[0]
		if p != "gc" && (c.StartupProbe == nil || c.LivenessProbe == nil || c.ReadinessProbe == nil) {
			t.Errorf("%s: probes are missing", p)
		}
	}
}

func duration(t *testing.T, args []string, flag string) time.Duration {
	t.Helper()
	for _, a := range args {
		if value, ok := strings.CutPrefix(a, flag); ok {
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	t.Fatalf("no %s among %q", flag, args)
	return 0
}

func selects(t *testing.T, selector, of labels.Set) bool {
	t.Helper()
	return labels.SelectorFromSet(selector).Matches(of)
}

// checkNetwork: nothing in, nothing out, but what is named.
func checkNetwork(t *testing.T, all objects) {
	deny := get[*networkingv1.NetworkPolicy](t, all, "default-deny").Spec
	if len(deny.PodSelector.MatchLabels) != 0 || len(deny.Ingress) != 0 || len(deny.Egress) != 0 || len(deny.PolicyTypes) != 2 {
		t.Errorf("default-deny is %+v", deny)
	}
	for _, p := range programs {
		var in, out int
		for _, np := range list[*networkingv1.NetworkPolicy](all) {
			if len(np.Spec.PodSelector.MatchLabels) == 0 || !selects(t, np.Spec.PodSelector.MatchLabels, pod(t, all, p).Labels) {
				continue
			}
			in, out = in+len(np.Spec.Ingress), out+len(np.Spec.Egress)
			for _, rule := range np.Spec.Ingress {
				if len(rule.Ports) == 0 {
					t.Errorf("%s lets in every port", np.Name)
				}
			}
		}
		if want := map[string]int{"nodehandler": 1, "apiserver": 1}[p]; in != want || out != 1 {
			t.Errorf("%s: %d rules in, %d out", p, in, out)
		}
	}
}

// checkConfiguration: one store, and for each program credentials of its own.
func checkConfiguration(t *testing.T, all objects) {
	ns := get[*corev1.Namespace](t, all, namespace)
	if ns.Labels["pod-security.kubernetes.io/enforce"] != "privileged" { // the node handler's hostPath
		t.Errorf("namespace has labels %v", ns.Labels)
	}
	config := get[*corev1.ConfigMap](t, all, "coredump")
	if !strings.HasPrefix(config.Data["COREDUMP_STORE"], "s3://") {
		t.Errorf("store %q", config.Data["COREDUMP_STORE"])
	}
	for _, p := range programs {
		c := pod(t, all, p).Spec.Containers[0]
		if !slices.Contains(c.Args, "--store=$(COREDUMP_STORE)") {
			t.Errorf("%s: arguments %q", p, c.Args)
		}
		if c.EnvFrom[0].ConfigMapRef.Name != config.Name || c.EnvFrom[1].SecretRef.Name != "coredump-"+p+"-s3" || len(c.EnvFrom) != 2 {
			t.Errorf("%s: environment from %v", p, c.EnvFrom)
		}
		if !strings.HasPrefix(c.Image, "registry.example.io/coredump/"+p+":") {
			t.Errorf("%s: image %s", p, c.Image)
		}
	}
}

func TestTheConnectionToTheAPIServerIsVerified(t *testing.T) {
	const name = "coredump-apiserver.coredump-system.svc"
	t.Run("by files", func(t *testing.T) {
		all := build(t, "overlays/self-signed")
		service := get[*apiregistrationv1.APIService](t, all, "v1alpha1.coredump.example.io")
		secret := get[*corev1.Secret](t, all, "coredump-apiserver-tls")
		if got := pod(t, all, "apiserver").Spec.Volumes[0].Secret.SecretName; got != secret.Name {
			t.Errorf("the server mounts %s, the certificate is in %s", got, secret.Name)
		}
		if _, ok := secret.Data["ca.key"]; ok {
			t.Error("the authority's key is in the cluster")
		}
		if service.Spec.InsecureSkipTLSVerify {
			t.Error("the connection is not verified")
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(service.Spec.CABundle) {
			t.Fatalf("no certificate in caBundle %q", service.Spec.CABundle)
		}
		pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Error(err)
		}
	})
	t.Run("by cert-manager", func(t *testing.T) {
		all := build(t, "overlays/cert-manager")
		service := get[*apiregistrationv1.APIService](t, all, "v1alpha1.coredump.example.io")
		if service.Annotations["cert-manager.io/inject-ca-from"] != namespace+"/coredump-apiserver" || service.Spec.InsecureSkipTLSVerify {
			t.Errorf("annotations %v, insecure %v", service.Annotations, service.Spec.InsecureSkipTLSVerify)
		}
		secret, dns := "", []string(nil)
		for _, u := range list[*unstructured.Unstructured](all) {
			if u.GetKind() == "Certificate" && u.GetName() == "coredump-apiserver" {
				secret, _, _ = unstructured.NestedString(u.Object, "spec", "secretName")
				dns, _, _ = unstructured.NestedStringSlice(u.Object, "spec", "dnsNames")
			}
		}
		if got := pod(t, all, "apiserver").Spec.Volumes[0].Secret.SecretName; got != secret || !slices.Contains(dns, name) {
			t.Errorf("the server mounts %s, the certificate of %q is in %s", got, dns, secret)
		}
	})
}

func TestANewServingCertificateKeepsTheAuthority(t *testing.T) {
	dir := t.TempDir()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info, _ := os.Stat(filepath.Join(dir, name)); strings.HasSuffix(name, ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		return string(data)
	}
	run(t, "./make-certs.sh", dir)
	ca, cert := read("ca.crt"), read("tls.crt")
	read("ca.key")
	read("tls.key")
	run(t, "./make-certs.sh", dir)
	if read("ca.crt") != ca || read("tls.crt") == cert {
		t.Error("the second run keeps the serving certificate or changes the authority")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// s3Policy is a policy of the store.
type s3Policy struct {
	Version   string
	Statement []struct {
		Sid       string
		Effect    string
		Principal map[string]string `json:",omitempty"`
		Action    []string
		Resource  string
		Condition json.RawMessage `json:",omitempty"`
	}
}

func TestThePoliciesOfTheStoreAllowWhatIsListedHereAndNoMore(t *testing.T) {
	const bucket, all, records = "arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/PREFIX/*", "arn:aws:s3:::BUCKET/PREFIX/*.json"
	const nobodys = "Deny arn:aws:s3:::BUCKET/PREFIX/_unknown/*"
	want := map[string]map[string][]string{ // the actions by program and resource
		"nodehandler": {all: {"s3:PutObject", "s3:AbortMultipartUpload"}, records: {"s3:GetObject"}},
		"apiserver":   {bucket: {"s3:ListBucket"}, all: {"s3:GetObject"}, nobodys: {"s3:GetObject"}},
		"gc":          {bucket: {"s3:ListBucket", "s3:ListBucketMultipartUploads"}, all: {"s3:DeleteObject", "s3:AbortMultipartUpload"}, records: {"s3:GetObject"}},
	}
	joint := read(t, "s3/bucket-policy.json")
	for _, p := range programs {
		own := read(t, "s3/"+p+".json")
		got, both := map[string][]string{}, map[string][]string{}
		key := map[string]string{"Allow": "", "Deny": "Deny "}
		for _, s := range own.Statement {
			got[key[s.Effect]+s.Resource] = append(got[key[s.Effect]+s.Resource], s.Action...)
			if _, known := key[s.Effect]; !known || s.Principal != nil {
				t.Errorf("%s: %+v", p, s)
			}
			if slices.Contains(s.Action, "s3:ListBucket") && !strings.Contains(string(s.Condition), `"PREFIX/*"`) {
				t.Errorf("%s lists the whole bucket", p)
			}
		}
		for _, s := range joint.Statement {
			if s.Principal["AWS"] == "coredump-"+p {
				both[key[s.Effect]+s.Resource] = append(both[key[s.Effect]+s.Resource], s.Action...)
			}
		}
		if !equal(got, want[p]) || !equal(both, want[p]) {
			t.Errorf("%s: may %v, by the bucket policy %v, want %v", p, got, both, want[p])
		}
	}
}

func equal(a, b map[string][]string) bool {
	x, _ := json.Marshal(a) // maps are encoded in the order of their keys
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func read(t *testing.T, name string) s3Policy {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var p s3Policy
	if err := decoder.Decode(&p); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}
