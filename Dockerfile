# syntax=docker/dockerfile:1
ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY storage storage
RUN python -m venv /opt/gateway \
    && /opt/gateway/bin/python -m pip install --no-cache-dir --disable-pip-version-check ".[postgres,otel]"

FROM build AS viewer
RUN GATEWAY_VIEWER__DIRECTORY=/opt/viewer /opt/gateway/bin/gateway viewer install

FROM python:${PYTHON}
COPY --from=build /opt/gateway /opt/gateway
COPY --from=viewer /opt/viewer /opt/viewer
# Made here, so that a volume that is mounted over it belongs to the user that runs.
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/gateway /var/lib/gateway-audit
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_STORAGE__DIRECTORY=/var/lib/gateway \
    GATEWAY_VIEWER__DIRECTORY=/opt/viewer \
    GATEWAY_METRICS__PORT=9464
USER 10001:10001
WORKDIR /var/lib/gateway
EXPOSE 8080 11112 9464
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/health/live', timeout=5)"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
