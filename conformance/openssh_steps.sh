#!/usr/bin/env bash
# Runs one of OpenSSH's regress scripts, unmodified, against a gateway that sshfs shows at $OBJ.
#
#   bash openssh_steps.sh SCRIPT     with OBJ, DATA_FILE and WRAPPER in the environment
#
# Stands in for test-exec.sh, which starts servers of its own. Prints `STEP name` and `FAIL text`.
# shellcheck disable=SC2034,SC1090,SC2317,SC2329 # the script reads the variables and calls these
SFTP=sftp SFTPSERVER=$WRAPPER SCP=scp SSH=ssh SRC=$(dirname "$1") EXEEXT='' SUDO='' TEST_SHELL=sh
DATA=$OBJ/data COPY=$OBJ/copy DATANAME=data
cp "$DATA_FILE" "$DATA"

verbose() { echo "STEP $*"; }
fail() { echo "FAIL $*"; }
fatal() { echo "FAIL $*"; exit 2; }
skip() { echo "SKIP $*"; exit 0; }
trace() { :; }
config_defined() { return 1; }

. "$1"
echo DONE
