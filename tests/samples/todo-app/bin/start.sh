#!/bin/sh
# What `docker compose up -d` is elsewhere: leaves something that a health check can find.
set -e
mkdir -p data
starts=$(cat data/starts 2> /dev/null || echo 0)
echo $((starts + 1)) > data/starts
cp package.json data/running.json
