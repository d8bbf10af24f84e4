# Two stages: what installs stays behind. The image runs as a user of its own, with a root that may be read-only.
# Nothing is fetched but the base and the packages of requirements.txt: no syntax line, which would fetch a frontend too.
# `make container-test` builds and runs this; docs/adr/0015-container.md has the reasons.

# A tag moves: a release gives BASE with the digest that its registry shows (NAME:TAG@sha256:...). No digest stands here,
# because the tests run where no registry can be asked whether it is the right one.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /srv/proxy
COPY requirements.txt /tmp/requirements.txt
# The secrets are for those who reach PyPI by a mirror or through a proxy with certificates of its own, and reach this
# step alone: `docker build --secret id=pip.conf,src=... --secret id=ca.pem,src=...`, with `cert = /run/secrets/ca.pem`.
# --no-deps and the check: a package that is not pinned fails the build. --only-binary: nothing of others' runs here.
# gevent's tests hold private keys, and nobody runs any package's.
# Byte code is made now, for the root may be read-only, and goes by no time of a file, so that two builds are the same.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    python -m venv --without-pip /opt/proxy \
    && pip --python /opt/proxy/bin/python install --no-cache-dir --no-compile --no-deps --only-binary :all: \
        --requirement /tmp/requirements.txt \
    && pip --python /opt/proxy/bin/python check \
    && find /opt/proxy/lib -type d -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/proxy/lib
COPY app app
COPY wsgi.py gunicorn.conf.py ./
# Modes are what the checkout has; under a umask of 077 nobody but root could read them.
RUN chmod -R u=rwX,go=rX . && python -m compileall -q --invalidation-mode unchecked-hash .

FROM ${BASE}
ARG SOURCE_DATE_EPOCH
# Debian has a user called proxy already. What the base brings for installing, and for becoming root, is of no use here.
RUN groupadd --gid 10001 hokusai \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin hokusai \
    && rm -rf "$(python -c 'import ensurepip, os; print(os.path.dirname(ensurepip.__file__))')" \
    && pip uninstall --yes --root-user-action=ignore setuptools wheel pip \
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
COPY --from=build /opt/proxy /opt/proxy
COPY --from=build /srv/proxy /srv/proxy
WORKDIR /srv/proxy
ENV PATH=/opt/proxy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 API_HOST=0.0.0.0 API_PORT=8001
USER 10001
EXPOSE 8001
STOPSIGNAL SIGTERM
# The same question that the load balancer asks; it does not ask MLflow.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['API_PORT'] + '/health', timeout=4)"]
# Exec form: gunicorn is process 1 and gets SIGTERM itself, so that it can drain. It also buries orphans: no init needed.
CMD ["gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"]
# Last, since they change with every commit.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="hokusai-mlflow-proxy" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
