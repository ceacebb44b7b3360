"""PHP 8: ``function main``. Arguments are passed by name; a Generator as the result is streamed."""

from __future__ import annotations

from typing import Final

from minwebhook.child.programs.program import Program

_WRAPPER: Final = r"""
final class MinwebhookJob {
    static function plain($value, $depth = 0) {
        if ($depth > 1024) throw new OverflowException('the result holds itself, or is too deep');
        $inner = fn($member) => self::plain($member, $depth + 1);
        if (is_array($value)) return array_map($inner, $value);
        if (is_float($value)) return is_finite($value) ? $value : null;
        if (is_string($value)) return preg_match('//u', $value) ? $value : base64_encode($value);
        if ($value instanceof DateTimeInterface) return $value->format(DATE_RFC3339_EXTENDED);
        if ($value instanceof BackedEnum) return $value->value;
        if ($value instanceof UnitEnum) return $value->name;
        if ($value instanceof JsonSerializable) return $inner($value->jsonSerialize());
        if ($value instanceof Traversable) return $inner(iterator_to_array($value));
        if (is_object($value)) return (object) $inner(get_object_vars($value));
        return is_resource($value) ? null : $value;
    }

    static function write($value) {
        $flags = JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR;
        file_put_contents('result.json', json_encode(self::plain($value), $flags, 100000));
    }

    static function convert($type, $value) {
        $name = $type instanceof ReflectionNamedType ? ltrim($type->getName(), '\\') : '';
        if (in_array($name, ['DateTimeImmutable', 'DateTimeInterface']) && is_string($value))
            return new DateTimeImmutable($value);
        if ($name === 'DateTime' && is_string($value)) return new DateTime($value);
        if ($name === 'object' || $name === 'stdClass') return $value;
        return self::arrays($value);
    }

    static function arrays($value) {
        if (is_object($value)) $value = get_object_vars($value);
        return is_array($value) ? array_map([self::class, 'arrays'], $value) : $value;
    }

    static function call($given) {
        $names = get_defined_functions()['user'];
        $found = array_values(array_filter($names, fn($name) => preg_match('/(^|\\\\)main$/', $name)));
        if (!$found) throw new BadFunctionCallException('main function is missing');
        $main = new ReflectionFunction($found[0]);
        $named = [];
        foreach ($main->getParameters() as $parameter) {
            $name = $parameter->getName();
            if ($parameter->isVariadic()) {
                foreach ($given as $key => $value) $named[$key] = self::arrays($value);
            } elseif (isset($given[$name])) {
                $named[$name] = self::convert($parameter->getType(), $given[$name]);
            } elseif (!$parameter->isOptional()) {
                $named[$name] = null;
            }
            unset($given[$name]);
        }
        $result = $found[0](...$named);
        if (!$result instanceof Generator) return $result;
        foreach ($result as $chunk) {
            if (!is_string($chunk)) throw new TypeError('a streaming main must yield string, not ' . gettype($chunk));
            fwrite(STDOUT, 'WM_STREAM: ' . str_replace("\n", '\n', $chunk) . "\n");
        }
        return null;
    }

    static function fail($error) {
        $place = fn($frame) => str_replace(getcwd() . '/', '', $frame['file']) . '(' . $frame['line'] . ')';
        $stack = [$place(['file' => $error->getFile(), 'line' => $error->getLine()])];
        foreach ($error->getTrace() as $frame) {
            if (($frame['file'] ?? 'Command line code') === 'Command line code') continue;
            $stack[] = $place($frame) . ': ' . ($frame['class'] ?? '') . ($frame['type'] ?? '') . $frame['function'] . '()';
        }
        $stack = array_filter($stack, fn($line) => !str_starts_with($line, 'Command line code'));
        $message = preg_replace('/, called in Command line code on line \d+$/', '', $error->getMessage()) ?? $error->getMessage();
        $seen = ['message' => $message, 'name' => get_class($error), 'stack' => implode("\n", $stack)];
        $extra = get_object_vars($error);
        self::write($extra ? $seen + ['extra' => $extra] : $seen);
        exit(1);
    }
}

$minwebhook_job = fgets(STDIN);
if ($minwebhook_job === false) exit(0);
$minwebhook_job = json_decode($minwebhook_job, false, 100000, JSON_BIGINT_AS_STRING);
foreach (getenv() as $minwebhook_name => $minwebhook_value) putenv($minwebhook_name);
foreach ($minwebhook_job->variables as $minwebhook_name => $minwebhook_value) {
    putenv("$minwebhook_name=$minwebhook_value");
    $_ENV[$minwebhook_name] = $_SERVER[$minwebhook_name] = $minwebhook_value;
}
$minwebhook_job = (array) $minwebhook_job->arguments;
try {
    require './main.php';
    MinwebhookJob::write(MinwebhookJob::call($minwebhook_job));
} catch (Throwable $minwebhook_value) {
    MinwebhookJob::fail($minwebhook_value);
}
"""


def _files(source: bytes) -> dict[str, bytes]:
    """PHP prints whatever is in front of its opening tag, which is added where it is missing. Lines keep their numbers."""
    start = b""
    if source[:2] == b"#!":
        _, start, source = source.partition(b"\n")
    text = source.lstrip()
    return {"main.php": b"<?php" + start + (text[5:] if text[:5].lower() == b"<?php" else b" " + source)}


PHP: Final = Program(
    language="php",
    title="PHP",
    extension=".php",
    names=("php", "php8.4", "php8.3", "php8.2"),
    install="apt-get install php-cli",
    check=("-r", "exit(PHP_MAJOR_VERSION >= 8 ? 0 : 1);"),
    arguments=("-d", "display_errors=stderr", "-d", "log_errors=0", "-d", "html_errors=0", "-r", _WRAPPER),
    waits=True,
    paths=("/etc/php", "/var/lib/php/modules"),
    files=_files,
)
