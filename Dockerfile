# syntax=docker/dockerfile:1
# Two images: --target operator and --target agent.

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY api ./api
COPY cmd ./cmd
COPY controllers ./controllers
COPY dataplane ./dataplane
ARG TARGETOS TARGETARCH VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/ ./cmd/operator ./cmd/agent

FROM gcr.io/distroless/static:nonroot AS operator
COPY --from=build /out/operator /operator
USER 65532:65532
ENTRYPOINT ["/operator"]

FROM debian:bookworm-slim AS agent
# iptables brings both backends; the agent takes the one that the node already uses.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends iptables ipset conntrack \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/agent /agent
ENTRYPOINT ["/agent"]
