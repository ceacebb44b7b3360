"""Perl: ``sub main``. Names come from its signature, or from its first lines ``my (...) = @_;`` or ``my $x = shift;``.

Without any, it gets one reference to a hash of all arguments. A reference to code as the result is an iterator, whose
texts are streamed until it gives undef.
"""

from __future__ import annotations

import re
from typing import Final

from minwebhook.child.programs.parameters import Parameter, closing, parameters
from minwebhook.child.programs.program import Program

_SUB: Final = re.compile(r"^[ \t]*sub[ \t]+main\b\s*", re.MULTILINE)
_SIGNATURE: Final = re.compile(r"^[ \t]*sub[ \t]+main\b\s*(?::\s*\w+\s*)?\((?=\s*[\$@%]\w)", re.MULTILINE)
#: A line that takes arguments off: ``my ($a, $b) = @_;``, ``my $a = shift;``, ``my %all = @_;``, perhaps with a default.
_LINE: Final = re.compile(
    r"""(?:\s|\#[^\n]*\n)*my\s*
        (?:\((?P<list>[^)]*)\)\s*=\s*@_|(?P<one>\$\w+)\s*=\s*shift(?:\s*@_|\(\s*@?_?\s*\))?|(?P<hash>%\w+)\s*=\s*@_)
        \s*(?://\s*(?P<default>[^;]+))?;""",
    re.VERBOSE,
)


def perl_parameters(source: str) -> list[Parameter]:
    """The parameters of ``main``, with their sigils."""
    if _SIGNATURE.search(source):
        found = parameters(source, _SIGNATURE)
        # "$x //= 1" and "$x ||= 1" are defaults, too
        return [Parameter(each.name.rstrip("/| "), each.default) for each in found]
    match = _SUB.search(source)
    if match is None:
        return []
    start = match.end()
    if source[start : start + 1] == "(":  # a prototype
        start = closing(source, start + 1)
    at = source.find("{", max(start, match.end())) + 1
    found = []
    while at > 0 and (line := _LINE.match(source, at)) is not None:
        at = line.end()
        names = line["list"].split(",") if line["list"] is not None else [line["one"] or line["hash"]]
        found += [Parameter(name.strip(), None) for name in names if name.strip()]
        if line["one"] is None:
            break
    return found


_WRAPPER: Final = r"""
package MinwebhookJob;
use strict;
use warnings;
use B ();
use JSON::PP ();
use Scalar::Util qw(blessed looks_like_number reftype);

$| = 1;
binmode($_, ':encoding(UTF-8)') for \*STDOUT, \*STDERR;

our $depth = 0;
sub plain {
    my ($value) = @_;
    no warnings 'recursion';
    local $depth = $depth + 1;
    die "the result holds itself, or is too deep\n" if $depth > 1024;
    if (!defined $value) { return undef }
    if (blessed $value) {
        return $value if $value->isa('JSON::PP::Boolean') || $value->isa('Math::BigInt') || $value->isa('Math::BigFloat');
        return plain($value->TO_JSON) if $value->can('TO_JSON');
        return $value->datetime if $value->can('datetime');
        return "$value" if overload::Method($value, '""');
    }
    my $type = reftype($value) // '';
    if ($type eq 'HASH') { return { map { $_ => plain($value->{$_}) } keys %$value } }
    if ($type eq 'ARRAY') { return [map { plain($_) } @$value] }
    if ($type eq 'SCALAR') { return $$value ? JSON::PP::true() : JSON::PP::false() }
    if ($type) { return "$value" }
    my $flags = B::svref_2object(\$value)->FLAGS;
    return undef if $flags & B::SVf_NOK && !($flags & B::SVf_POK) && ($value != $value || abs($value) == 9**9**9);
    return $value;
}

sub write_result {
    my ($value) = @_;
    my $json = JSON::PP->new->utf8->canonical->allow_nonref->allow_bignum->max_depth(100000);
    open(my $file, '>', 'result.json') or die "result.json: $!";
    print {$file} $json->encode(plain($value));
    close($file) or die "result.json: $!";
}

sub default_of {
    my ($text, $names, $values) = @_;
    no strict;
    my $earlier = join '', map { "my $names->[$_] = \$values->[$_];" } grep { $names->[$_] =~ /^\$/ } 0 .. $#$values;
    no warnings;
    return eval "package main; use utf8; $earlier $text";
}

sub bind_arguments {
    my ($parameters, $given) = @_;
    return ($given) unless @$parameters;
    my (@names, @values);
    my $last = -1;    # so that the defaults behind the last one that was sent are Perl's own
    for my $at (0 .. $#$parameters) {
        my ($name) = $parameters->[$at]{name} =~ /^.(\w*)/;
        $last = $at if defined $given->{$name} || !defined $parameters->[$at]{default};
    }
    for my $at (0 .. $last) {
        my ($sigil, $name) = $parameters->[$at]{name} =~ /^(.)(\w*)/;
        if ($sigil eq '@') { push @values, @{ delete $given->{$name} // [] }; last }
        if ($sigil eq '%') { push @values, map { $_ => $given->{$_} } sort keys %$given; last }
        my ($value, $default) = (delete $given->{$name}, $parameters->[$at]{default});
        $value = default_of($default, \@names, \@values) if !defined $value && defined $default;
        push @names, $parameters->[$at]{name};
        push @values, $value;
    }
    return @values;
}

our @stack;
sub note_stack {
    @stack = ();
    for (my $depth = 0; my @frame = caller($depth); $depth++) {
        next if $frame[1] ne 'main.pl';
        my $inside = (caller($depth + 1))[3] // '';
        push @stack, "main.pl:$frame[2]" . ($inside && $inside ne '(eval)' ? " in $inside" : '');
    }
}

sub fail {
    my ($error) = @_;
    my $seen = { message => "$error", name => 'Error', stack => join("\n", @stack) };
    if (blessed $error) {
        $seen->{name} = ref $error;
        $seen->{message} = $error->message if $error->can('message');
        $seen->{extra} = {%$error} if reftype($error) eq 'HASH' && %$error;
    } elsif (ref $error eq 'HASH') {
        $seen->{message} = $error->{message} // JSON::PP->new->canonical->allow_unknown->encode($error);
        $seen->{name} = $error->{name} if defined $error->{name};
        my %extra = %$error;
        delete @extra{qw(message name)};
        $seen->{extra} = \%extra if %extra;
    }
    $seen->{message} =~ s/\s+\z//;
    write_result($seen);
    exit 1;
}

my $line = <STDIN>;
exit 0 unless defined $line;
$. = 0;    # or each message of die would speak of it
my $job = JSON::PP->new->utf8->max_depth(100000)->decode($line);
%ENV = ();
for my $name (keys %{ $job->{variables} }) {
    my $value = $job->{variables}{$name};
    utf8::encode($value);
    $ENV{$name} = $value;
}
my $done = eval {
    local $SIG{__DIE__} = \&note_stack;
    do './main.pl';
    die $@ if $@;
    1;
};
fail($@) unless $done;
fail("main function is missing\n") unless defined &main::main;
my $result;
$done = eval {
    local $SIG{__DIE__} = \&note_stack;
    $result = main::main(bind_arguments($job->{parameters}, $job->{arguments}));
    if (ref $result eq 'CODE') {
        while (defined(my $chunk = $result->())) {
            $chunk =~ s/\n/\\n/g;
            print STDOUT "WM_STREAM: $chunk\n";
        }
        $result = undef;
    }
    write_result($result);
    1;
};
fail($@) unless $done;
"""


def _files(source: bytes) -> dict[str, bytes]:
    """Scripts are UTF-8 here, which Perl must be told."""
    return {"main.pl": b'package main; use utf8;\n# line 1 "main.pl"\n' + source}


PERL: Final = Program(
    language="perl",
    title="Perl",
    extension=".pl",
    names=("perl",),
    install="apt-get install perl",
    check=("-MJSON::PP", "-MB", "-e", "1"),
    arguments=("-e", _WRAPPER),
    waits=True,
    paths=("/etc/perl",),
    parameters=perl_parameters,
    files=_files,
)
