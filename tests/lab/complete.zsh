# Types lines into an interactive zsh on a terminal of its own, and prints what the command gets as its arguments.
# Arguments: the directory of the completion, then the lines, with \t for the tabulator.
zmodload zsh/zpty
zpty shell "TERM=dumb zsh -f -i"
await() { zpty -r shell output "*$1*" || exit 1 }
zpty -w shell "PS1=; fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D; raptor-builders() { printf 'GOT:%s;' \"\$@\"; print END; }; print RE''ADY"
await READY
for line in "${@:2}"; do
  zpty -w -n shell "raptor-builders ${(g::)line}"$'\n'
  await $'END\r\n'
  print -r -- ${${(M)${(f)output}:#*GOT*}%%END*}
done
zpty -d shell
