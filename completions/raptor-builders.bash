# bash completion for raptor-builders. Written by "deno task generate".
_raptor_builders() {
  local line=${COMP_LINE:0:COMP_POINT} builder='' flag='' value='' words flags word prefix=''
  read -ra words <<<"$line"
  # The word that is completed, which bash itself would split at "=".
  if [[ $line == *[[:space:]] ]]; then word=''; else word=${words[-1]}; unset 'words[-1]'; fi
  COMPREPLY=()
  case ${words[1]-} in disk-image|part-image) builder=${words[1]} ;; esac
  if [[ $word == --*=* ]]; then
    flag=${word%%=*} value=${word#*=}
    [[ $COMP_WORDBREAKS == *=* ]] || prefix=$flag=
  elif ((${#words[@]} > 1)); then
    case ${words[-1]} in
      --file|--input|--index|--log|--output|--output-format|--compress|--output-name|--filesystem|--compression|--layout|--efi-mb|--boot-mb|--free-mb|--used-mb|--size-mb|--verity|--verity-key|--verity-cert|--bootloader|--firmware|--sector-size|--secure-boot-key|--secure-boot-cert|--kernel-cmdline|--keep|--selinux|--verify|--strict|--manifest|--sbom|--bmap|--incus-metadata|--split-dir|--image-version|--seed|--source-date-epoch|--label|--directory|--portable|--oci-tag|--oci-command|--oci-env|--oci-labels|--verity-dir) flag=${words[-1]} value=$word ;;
      -f) flag=--file value=$word ;;
    esac
  fi
  case $flag in
    '') ;;
    --file|--input|--output|--layout|--verity-key|--verity-cert|--secure-boot-key|--secure-boot-cert|--manifest|--sbom|--bmap|--incus-metadata|--split-dir|--verity-dir)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -P "$prefix" -f -- "$value")
      return
      ;;
    *)
      words=''
      case $flag in
        --log) words='text json' ;;
        --output-format) words='raw qcow2 qcow2-zstd vdi vhdx vmdk vpc gce ova vagrant tar oci wsl incus img vhd' ;;
        --compress) words='none zst xz gz' ;;
        --filesystem) words='ext4 squashfs erofs vfat' ;;
        --compression) words='zstd gzip xz lz4 lz4hc none lzma deflate' ;;
        --layout) words='tree' ;;
        --verity) words='none hash signed' ;;
        --bootloader) words='auto existing systemd-boot grub uki none' ;;
        --firmware) words='uefi bios hybrid' ;;
        --sector-size) words='512 4096' ;;
        --keep) words='all none whiteouts container-marks container-files apple-double machine-id random-seed credential-secret host-keys iscsi-initiator nvme-host network-secret dhcp network-mac cloud-init journal lvm-devices service-keys agent-keys package-cache' ;;
        --selinux) words='auto policy tree none' ;;
        --verify) words='quick full' ;;
        --strict) words='0 1' ;;
      esac
      case $flag in
        --keep)
          if [[ $value == *,* ]]; then
            prefix+=${value%,*},
            value=${value##*,}
          fi
          ;;
      esac
      mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$words" -- "$value")
      return
      ;;
  esac
  case $builder in
    disk-image) flags='--input= --output= --dry-run --json --verbose --log= --help --version --output-format= --compress= --output-name= --filesystem= --compression= --layout= --efi-mb= --boot-mb= --free-mb= --used-mb= --size-mb= --verity= --verity-key= --verity-cert= --bootloader= --firmware= --sector-size= --secure-boot-key= --secure-boot-cert= --kernel-cmdline= --keep= --selinux= --verify= --strict= --manifest= --sbom= --bmap= --incus-metadata= --split-dir= --image-version= --seed= --source-date-epoch=' ;;
    part-image) flags='--input= --output= --dry-run --json --verbose --log= --help --version --output-format= --compress= --output-name= --filesystem= --compression= --label= --directory= --free-mb= --used-mb= --size-mb= --portable= --oci-tag= --oci-command= --oci-env= --oci-labels= --verity= --verity-key= --verity-cert= --verity-dir= --keep= --selinux= --verify= --strict= --manifest= --sbom= --bmap= --incus-metadata= --seed= --source-date-epoch=' ;;
    *)
      flags='--file= --input= --index= --force --dry-run --json --verbose --log= --help --version'
      ((${#words[@]} > 1)) || flags+=' disk-image part-image'
      flags+=" $(sed -n 's/^\[run\.\([A-Za-z0-9_-]*\)\].*/\1/p' Raptor.toml 2>/dev/null)"
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word")
  [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
}
complete -F _raptor_builders raptor-builders
