# A static binary on an empty root: no shell, no package manager, no root user.
FROM golang:1.26 AS build
ARG VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/purser ./cmd/purser \
 && mkdir -m 0700 /out/data && mkdir -m 1777 /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/purser /purser
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build /out/tmp /tmp
# The data directory holds the repositories, the spool and the cache; mount a volume there.
VOLUME /data
USER 65532:65532
ENTRYPOINT ["/purser"]
CMD ["run"]
