#!/bin/bash
# One run on a Cloud TPU pod slice: docs/clusters/tpu_pod.sh NAME ZONE
# Every host needs a clone of jaxnn in ~/jaxnn, jax[tpu], and the same Filestore share mounted at /shared.
set -u
NAME=$1 ZONE=$2

# Runs the same command on every host, and restarts it while its exit code says that it can resume.
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command='
  cd ~/jaxnn
  until python -m experiments.char_gpt --out /shared/runs/char_gpt; do
    code=$?
    if [ $code -ne 75 ] && [ $code -lt 128 ]; then exit $code; fi
    sleep 10
  done'
