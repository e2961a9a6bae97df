// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:onlyVerbs=get,list,watch
// +genclient:method=Presign,verb=create,subresource=presign,input=PresignedURL,result=PresignedURL
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// CoreDump is one core dump of one process in one container. It is written once, when the dump has
// been stored, and never changed. Its name is <pod>.<container>.<id>, its labels are those of the
// pod, its creation time is the time of the crash. The bytes of the core are in the subresource dump.
type CoreDump struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says who crashed, why, and how the dump was captured.
	Spec CoreDumpSpec `json:"spec"`
	// status says what is in the store.
	// +optional
	Status CoreDumpStatus `json:"status,omitempty"`
}

// CoreDumpSpec says who crashed, why, and how the dump was captured.
type CoreDumpSpec struct {
	// podName is the name of the pod that the process ran in.
	PodName string `json:"podName"`
	// podUID is the UID of that pod; empty where it could not be learnt. A pod name can be used again, a UID cannot.
	// +optional
	PodUID string `json:"podUID,omitempty"`
	// namespaceUID is the UID that the namespace had at the time of the crash; empty where it could not be
	// learnt. A dump is shown in its namespace only while the namespace has this UID.
	// +optional
	NamespaceUID string `json:"namespaceUID,omitempty"`
	// containerName is the name of the container in the pod.
	ContainerName string `json:"containerName"`
	// containerID is the runtime's id of the container, for example containerd://3f1c….
	// +optional
	ContainerID string `json:"containerID,omitempty"`
	// image is the image that the pod asked for.
	// +optional
	Image string `json:"image,omitempty"`
	// imageID is what the runtime resolved image to, with the digest.
	// +optional
	ImageID string `json:"imageID,omitempty"`
	// nodeName is the node that the process ran on.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// clusterName tells clusters that share a bucket apart.
	// +optional
	ClusterName string `json:"clusterName,omitempty"`
	// owner is the controller of the pod, for example its ReplicaSet.
	// +optional
	Owner *OwnerReference `json:"owner,omitempty"`

	// process says which process crashed, and why.
	// +optional
	Process Process `json:"process,omitempty"`
	// capture says how the dump was taken.
	// +optional
	Capture Capture `json:"capture,omitempty"`
}

// OwnerReference names the controller of a pod.
type OwnerReference struct {
	// apiVersion of the owner.
	APIVersion string `json:"apiVersion"`
	// kind of the owner.
	Kind string `json:"kind"`
	// name of the owner.
	Name string `json:"name"`
	// uid of the owner.
	// +optional
	UID string `json:"uid,omitempty"`
}

// Process says which process crashed, and why. Names come from the process itself: whoever controls
// the process controls them. They are reduced to printable ASCII.
type Process struct {
	// executable is the name of the program's file; a path where it is known.
	// +optional
	Executable string `json:"executable,omitempty"`
	// comm is the name of the crashing thread, at most 15 bytes.
	// +optional
	Comm string `json:"comm,omitempty"`
	// pid is the process id in the container's own PID namespace, as the core itself has it.
	// +optional
	PID int64 `json:"pid,omitempty"`
	// hostPID is the process id on the node.
	// +optional
	HostPID int64 `json:"hostPID,omitempty"`
	// uid is the real user id; absent where it is not known.
	// +optional
	UID *int64 `json:"uid,omitempty"`
	// signal is the number of the signal that ended the process; 0 where it is not known.
	// +optional
	Signal int32 `json:"signal,omitempty"`
	// signalName is the signal's name, for example SIGSEGV.
	// +optional
	SignalName string `json:"signalName,omitempty"`
	// time is when the process crashed.
	Time metav1.Time `json:"time"`
}

// CaptureMode is the way a dump came to the node handler.
// +enum
type CaptureMode string

const (
	// CaptureFile is a core file that was dropped into the watched directory.
	CaptureFile CaptureMode = "file"
	// CapturePipe is a dump that the kernel piped to a helper (core_pattern "|…").
	CapturePipe CaptureMode = "pipe"
	// CaptureSocket is a dump that the kernel sent over a socket (core_pattern "@@…").
	CaptureSocket CaptureMode = "socket"
)

// Identity says how much the names in a record are worth.
// +enum
type Identity string

const (
	// IdentityVerified means that the kernel and the container runtime said whose dump this is.
	IdentityVerified Identity = "verified"
	// IdentityClaimed means that the place or the name of a file said so, which whoever can write there can forge.
	IdentityClaimed Identity = "claimed"
	// IdentityUnknown means that nobody could say whose dump this is. Such a dump is kept in the bucket under _unknown/<node>/unknown/ and never
	// served, to nobody: only who can read the bucket itself can read it.
	IdentityUnknown Identity = "unknown"
)

// Capture says how the dump was taken.
type Capture struct {
	// mode is the way the dump came to the node handler: file, pipe or socket.
	// +optional
	Mode CaptureMode `json:"mode,omitempty"`
	// identity is verified where the kernel and the container runtime said whose dump this is,
	// claimed where only the place of a file said so, and unknown where nobody could say; what is unknown is only in the bucket
	// and never served.
	// +optional
	Identity Identity `json:"identity,omitempty"`
	// file is the path of the file in the watched directory, in mode file; quoted where it is not printable.
	// +optional
	File string `json:"file,omitempty"`
	// handler is the version of the node handler.
	// +optional
	Handler string `json:"handler,omitempty"`
}

// CoreDumpStatus says what is in the store.
type CoreDumpStatus struct {
	// size is the length of the core in bytes.
	Size int64 `json:"size"`
	// storedSize is the length of the stored object in bytes.
	StoredSize int64 `json:"storedSize"`
	// codec is how the object is compressed: zst, gz, or empty for not at all.
	// +optional
	Codec string `json:"codec,omitempty"`
	// sha256 is the hex SHA-256 of the core, uncompressed.
	SHA256 string `json:"sha256"`
	// checksum of the stored object, as <algorithm>:<value>, for example crc64nvme:AAAAAAAAAAA=.
	// +optional
	Checksum string `json:"checksum,omitempty"`
	// truncated is true where the core is shorter than its own ELF header promises.
	// +optional
	Truncated bool `json:"truncated,omitempty"`
	// truncatedReason says why, in a sentence.
	// +optional
	TruncatedReason string `json:"truncatedReason,omitempty"`
	// promisedSize is the length in bytes that the ELF header promises; 0 where it cannot be told.
	// +optional
	PromisedSize int64 `json:"promisedSize,omitempty"`
	// uploadTime is when the dump was complete in the store.
	// +optional
	UploadTime *metav1.Time `json:"uploadTime,omitempty"`
	// context says what is stored beside the core: status of pod and container, facts of the process, the end of the log. Its
	// files are in the archives of the subresource dump.
	// +optional
	Context *StoredContext `json:"context,omitempty"`
	// summary says what can be read from the core without a debugger.
	// +optional
	Summary *CrashSummary `json:"summary,omitempty"`
}

// StoredContext says what is stored of the crash beside the core.
type StoredContext struct {
	// storedSize is the length of the stored object, a tar.zst, in bytes.
	StoredSize int64 `json:"storedSize"`
	// sha256 is the hex SHA-256 of the stored object.
	SHA256 string `json:"sha256"`
	// files are what is in it; at most 64 files.
	// +optional
	// +listType=atomic
	Files []ContextFile `json:"files,omitempty"`
}

// ContextFile is a file that is stored beside a core.
type ContextFile struct {
	// name is its path, for example proc/maps.
	Name string `json:"name"`
	// size is its length in bytes.
	Size int64 `json:"size"`
}

// Bounds of the lists in a CrashSummary.
const (
	MaxFrames       = 8
	MaxOtherThreads = 16
	MaxModules      = 32
)

// CrashSummary says what can be read from a core without a debugger.
type CrashSummary struct {
	// text is the crash in a sentence, for example SIGSEGV (address not mapped) at 0x8 in /app/server+0x1f2c.
	// +optional
	Text string `json:"text,omitempty"`
	// signature is equal for crashes that are likely the same.
	// +optional
	Signature string `json:"signature,omitempty"`
	// buildID is the GNU build id of the executable, in hex.
	// +optional
	BuildID string `json:"buildID,omitempty"`
	// architecture is the machine of the core, for example amd64.
	// +optional
	Architecture string `json:"architecture,omitempty"`
	// threads is the number of threads.
	// +optional
	Threads int32 `json:"threads,omitempty"`
	// thread is the place of the crashing thread among them, by thread id, from 1 on.
	// +optional
	Thread int32 `json:"thread,omitempty"`
	// tid is the id of the crashing thread in its own PID namespace.
	// +optional
	TID int64 `json:"tid,omitempty"`
	// code is si_code in words, for example "address not mapped"; see sigaction(2).
	// +optional
	Code string `json:"code,omitempty"`
	// address is the fault address, for example 0x8; empty for signals that somebody sent.
	// +optional
	Address string `json:"address,omitempty"`
	// frames are the innermost calls of the crashing thread as far as they can be told without symbols, the
	// place of the crash first.
	// +optional
	// +listType=atomic
	Frames []CrashFrame `json:"frames,omitempty"`
	// others are where the other threads were; at most 16 of them.
	// +optional
	// +listType=atomic
	Others []ThreadPlace `json:"others,omitempty"`
	// modules are the files that were mapped into the process, the executable first; at most 32 of them.
	// +optional
	// +listType=atomic
	Modules []CrashModule `json:"modules,omitempty"`
}

// CrashFrame is a place in the code of a process.
type CrashFrame struct {
	// address in memory, for example 0x55d0c8a3f2c1.
	Address string `json:"address"`
	// module is the path of the mapped file, as the process saw it; empty where the address is in none.
	// +optional
	Module string `json:"module,omitempty"`
	// offset in that file, for example 0x1f2c.
	// +optional
	Offset string `json:"offset,omitempty"`
	// buildID is the GNU build id of that file, in hex.
	// +optional
	BuildID string `json:"buildID,omitempty"`
}

// ThreadPlace is where a thread was.
type ThreadPlace struct {
	// tid is its id in its own PID namespace.
	TID int64 `json:"tid"`

	CrashFrame `json:",inline"`
}

// CrashModule is a file that was mapped into the process.
type CrashModule struct {
	// path as the process saw it.
	Path string `json:"path"`
	// buildID is its GNU build id, in hex.
	// +optional
	BuildID string `json:"buildID,omitempty"`
	// start is the address of its first mapping, for example 0x55d0c8a3e000.
	Start string `json:"start"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// CoreDumpList is a list of core dumps.
type CoreDumpList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the core dumps, ordered by namespace, pod, container and time.
	Items []CoreDump `json:"items"`
}
