"""Ruby: ``def main``, with positional or keyword parameters. An Enumerator as the result is streamed."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from minwebhook.child.programs.parameters import parameters
from minwebhook.child.programs.program import Program

_MAIN: Final = re.compile(r"^[ \t]*def[ \t]+(?:self\.)?main[ \t]*\(", re.MULTILINE)

_WRAPPER: Final = r"""
$stdout.sync = $stderr.sync = true
require "json"
require "time"

module MinwebhookJob
  def self.plain(value)
    case value
    when Hash then value.to_h { |key, member| [key.to_s, plain(member)] }
    when Array then value.map { |member| plain(member) }
    when Float then value.finite? ? value : nil
    when nil, true, false, Integer then value
    when Time, DateTime then value.iso8601(value.to_time.nsec.zero? ? 0 : 3)
    when String
      return [value].pack("m0") if value.encoding == Encoding::BINARY && !value.ascii_only?
      value.encode("UTF-8", invalid: :replace, undef: :replace).scrub
    else value.respond_to?(:to_h) ? plain(value.to_h) : value.to_s
    end
  end

  def self.default(binding, text)
    text && binding.eval(text)
  rescue StandardError, ScriptError
    nil
  end

  # Ruby tells the names of parameters, but neither their defaults nor how to leave one out in the middle.
  def self.bind(method, written, given)
    positional, named, scope = [], {}, TOPLEVEL_BINDING.dup
    declared = method.parameters.map { |_, name| name.to_s }
    method.parameters.each do |kind, name|
      value = given[name.to_s]
      case kind
      when :req, :opt
        value = default(scope, written[name.to_s]) if value.nil? && kind == :opt
        positional << value
        scope.local_variable_set(name, value)
      when :keyreq then named[name] = value
      when :key then named[name] = value unless value.nil?
      when :keyrest then given.each { |key, other| named[key.to_sym] = other unless declared.include?(key) }
      end
    end
    [positional, named]
  end

  def self.stream(chunks)
    chunks.each do |chunk|
      raise TypeError, "a streaming main must yield String, not #{chunk.class}" unless chunk.is_a?(String)
      $stdout.write("WM_STREAM: " + chunk.gsub("\n", "\\n") + "\n")
    end
    nil
  end

  def self.error(error)
    stack = (error.backtrace || []).reject { |line| line.start_with?("-e:") }
    stack = stack.map { |line| line.delete_prefix(Dir.pwd + "/").delete_prefix("./") }
    extra = error.instance_variables.to_h { |name| [name.to_s.delete_prefix("@"), error.instance_variable_get(name)] }
    seen = { "message" => error.message.delete_prefix(Dir.pwd + "/"), "name" => error.class.name, "stack" => stack.join("\n") }
    extra.empty? ? seen : seen.merge("extra" => extra)
  end

  # Ruby itself gives it to the first program only.
  def self.offer_data
    at = File.binread("main.rb") =~ /^__END__\r?\n/ or return
    file = File.open("main.rb")
    file.seek(at + $~[0].bytesize)
    Object.const_set(:DATA, file)
  end

  def self.run(job)
    ENV.replace(job["variables"])
    offer_data
    load "./main.rb"
    holder = TOPLEVEL_BINDING.receiver
    raise ArgumentError, "main function is missing" unless holder.respond_to?(:main, true)
    written = job["parameters"].to_h { |each| [each["name"], each["default"]] }
    positional, named = bind(holder.method(:main), written, job["arguments"])
    result = holder.send(:main, *positional, **named)
    result = stream(result) if result.is_a?(Enumerator)
    File.write("result.json", JSON.generate(plain(result), max_nesting: false))
  rescue SystemExit
    raise
  rescue Exception => error
    File.write("result.json", JSON.generate(plain(error(error)), max_nesting: false))
    exit!(1)
  end
end

line = $stdin.gets
MinwebhookJob.run(JSON.parse(line, max_nesting: false)) if line
"""

RUBY: Final = Program(
    language="ruby",
    title="Ruby",
    extension=".rb",
    names=("ruby",),
    install="apt-get install ruby",
    check=("-e", "require 'json'; require 'time'; exit(RUBY_VERSION.to_f >= 2.7)"),
    arguments=("-e", _WRAPPER),
    waits=True,
    paths=("/var/lib/gems",),
    parameters=partial(parameters, start=_MAIN),
)
