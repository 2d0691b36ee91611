#!/usr/bin/env bash
# Key, bundle and Occlum instance of one model, in build/.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name_missing_packages
build_image
