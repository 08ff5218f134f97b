# Builds Myelin and puts it beside the Postgres that it runs for itself. Data is in /data.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin myelin && cp target/release/myelin /usr/local/bin/myelin

FROM debian:bookworm-slim
RUN mkdir -p /etc/postgresql-common \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
    && apt-get update \
    && apt-get install -y --no-install-recommends postgresql ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 1008 --home-dir /data myelin \
    && install -d -o myelin -g myelin -m 0750 /data
COPY --from=build /usr/local/bin/myelin /usr/local/bin/myelin
# What is set in the environment wins over a file: what somebody may want to change stands in one.
RUN install -d /etc/myelin \
    && printf '[[listeners]]\nbind = "0.0.0.0"\nport = 8008\n' > /etc/myelin/myelin.toml

USER myelin
WORKDIR /data
VOLUME /data
EXPOSE 8008
ENV MYELIN_DATA_DIR=/data \
    MYELIN_CONFIG=/etc/myelin/myelin.toml
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD curl --fail --silent --output /dev/null http://127.0.0.1:8008/health
ENTRYPOINT ["myelin"]
CMD ["serve"]
