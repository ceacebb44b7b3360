# Positional arguments get their names from lines like the next one; the last line of output is the result.
name="$1"

echo "this line is log" >&2
echo "Hello from bash, $name."
