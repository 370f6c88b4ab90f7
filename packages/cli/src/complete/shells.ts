/**
 * What each shell runs. They ask `uaccel completion SHELL --line TEXT`, which answers lines of `word TAB meaning`; where it
 * answers none, they complete files.
 */
export const shells = {
  // Bash breaks words at : and =, and replaces only what follows the last of them.
  bash: `# uaccel: completion for bash
_uaccel() {
  local line="\${COMP_LINE:0:COMP_POINT}" word
  local last="\${line##*[[:space:]]}"
  local kept="\${last%"\${last##*[:=]}"}"
  COMPREPLY=()
  while IFS=$'\\t' read -r word _; do
    COMPREPLY+=("\${word#"$kept"}")
  done < <("\${COMP_WORDS[0]}" completion bash --line "$line" 2>/dev/null)
  if [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *[=.] ]]; then compopt -o nospace; fi
}
complete -o bashdefault -o default -F _uaccel uaccel
`,
  zsh: `#compdef uaccel
# uaccel: completion for zsh
_uaccel() {
  local -a words_ meanings
  local word meaning
  while IFS=$'\\t' read -r word meaning; do
    words_+=("$word")
    meanings+=("\${word}\${meaning:+  -- $meaning}")
  done < <("\${words[1]}" completion zsh --line "$LBUFFER" 2>/dev/null)
  if (( \${#words_} )); then compadd -l -d meanings -a words_; else _files; fi
}
if [[ $funcstack[1] == _uaccel ]]; then _uaccel "$@"; else compdef _uaccel uaccel; fi
`,
  fish: `# uaccel: completion for fish
function __uaccel_complete
  set -l found (command uaccel completion fish --line (commandline -cp) 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c uaccel -f -a '(__uaccel_complete)'
`,
} as const
