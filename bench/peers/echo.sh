#!/bin/bash
# The job of the `webhook` peer in bash: gives back the JSON that it was called with.
printf %s "$1"
