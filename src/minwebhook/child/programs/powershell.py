"""PowerShell: the script's ``param(...)``, by name. The result is the last line of its output, as with bash.

Each job starts ``pwsh``, which runs a wrapper that runs the script. A terminating error (every error, as long as the
script leaves ``$ErrorActionPreference`` alone) is the job's error.
"""

from __future__ import annotations

from typing import Final

from minwebhook.child.programs.program import Program

_WRAPPER_FILE: Final = ".job.ps1"
_WRAPPER: Final = r"""
$ErrorActionPreference = 'Stop'
$OutputEncoding = [Console]::OutputEncoding = [System.Text.UTF8Encoding]::new($false)
function Read-MinwebhookValue([System.Text.Json.JsonElement] $Element) {
    # ConvertFrom-Json would make dates of texts that look like one.
    switch ($Element.ValueKind) {
        'String' { return $Element.GetString() }
        'True' { return $true }
        'False' { return $false }
        'Number' {
            [long] $whole = 0
            if ($Element.TryGetInt64([ref] $whole)) { return $whole }
            return $Element.GetDouble()
        }
        'Array' {
            $items = [System.Collections.Generic.List[object]]::new()
            foreach ($item in $Element.EnumerateArray()) { $items.Add((Read-MinwebhookValue $item)) }
            return , $items.ToArray()
        }
        'Object' {
            $members = [ordered] @{}
            foreach ($member in $Element.EnumerateObject()) { $members[$member.Name] = Read-MinwebhookValue $member.Value }
            return [pscustomobject] $members
        }
    }
    return $null
}
function Get-MinwebhookPath([string] $Name) { return [System.IO.Path]::GetFullPath($Name, $PWD.Path) }
$path = Get-MinwebhookPath 'main.ps1'
$result = Get-MinwebhookPath 'result.json'
try {
    $given = [System.Text.Json.JsonDocument]::Parse([System.IO.File]::ReadAllText((Get-MinwebhookPath 'args.json')))
    $block = [System.Management.Automation.Language.Parser]::ParseFile($path, [ref] $null, [ref] $null).ParamBlock
    $named = @{}
    foreach ($parameter in @(if ($block) { $block.Parameters })) {
        $name = $parameter.Name.VariablePath.UserPath
        $found = [System.Text.Json.JsonElement]::new()
        if ($given.RootElement.TryGetProperty($name, [ref] $found) -and $found.ValueKind -ne 'Null') {
            $named[$name] = Read-MinwebhookValue $found
        }
    }
    $global:LASTEXITCODE = 0
    & $path @named
} catch {
    $seen = [ordered] @{
        message = $_.Exception.Message
        name = $_.Exception.GetType().Name
        stack = "$($_.ScriptStackTrace)".Replace("$($PWD.Path)/", '')
    }
    [System.IO.File]::WriteAllText($result, (ConvertTo-Json $seen -Compress))
    exit 1
}
exit $LASTEXITCODE
"""

POWERSHELL: Final = Program(
    language="powershell",
    title="PowerShell",
    extension=".ps1",
    names=("pwsh",),
    install="install pwsh 7.2 or newer from Microsoft's packages for your system",
    check=(
        "-NoLogo",
        "-NoProfile",
        "-NonInteractive",
        "-Command",
        "exit [int]($PSVersionTable.PSVersion -lt [version] '7.2')",
    ),
    arguments=("-NoLogo", "-NoProfile", "-NonInteractive", "-File", _WRAPPER_FILE),
    paths=("/opt/microsoft/powershell",),
    variables=(
        ("POWERSHELL_TELEMETRY_OPTOUT", "1"),
        ("POWERSHELL_UPDATECHECK", "Off"),
        ("DOTNET_CLI_TELEMETRY_OPTOUT", "1"),
        ("DOTNET_EnableDiagnostics", "0"),
        ("NO_COLOR", "1"),
    ),
    files=lambda source: {"main.ps1": source, _WRAPPER_FILE: _WRAPPER.encode()},
    reserves_addresses=True,
)
