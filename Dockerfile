# One image a program:  docker build --target=gc --build-arg=VERSION=v0.1.0 -t registry.example.io/coredump/gc:v0.1.0 .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY pkg pkg
ARG VERSION=v0.0.0
ARG TARGETOS
ARG TARGETARCH
# grpcnotrace: the traces of gRPC need html/template, with which the linker must keep every method of every type, a third of the programs.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -tags grpcnotrace \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$VERSION -X main.version=$VERSION" -o /out/ \
    ./cmd/apiserver ./cmd/nodehandler ./cmd/corepipe ./cmd/gc

FROM gcr.io/distroless/static-debian12:nonroot AS apiserver
COPY --from=build /out/apiserver /apiserver
ENTRYPOINT ["/apiserver"]

# As root: it sets the host's core_pattern, and reads and removes files of other users. corepipe is what it puts on the host.
FROM gcr.io/distroless/static-debian12:latest AS nodehandler
COPY --from=build /out/nodehandler /nodehandler
COPY --from=build /out/corepipe /corepipe
ENTRYPOINT ["/nodehandler"]

FROM gcr.io/distroless/static-debian12:nonroot AS gc
COPY --from=build /out/gc /gc
ENTRYPOINT ["/gc"]
