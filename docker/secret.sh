# For the entry points: `secret NAME` prints the password that the start mounts as /run/secrets/NAME.
secret() {
    file=/run/secrets/$1
    if ! test -f "$file" || ! test -s "$file"; then
        echo "The password in docker/secrets/$1 is missing: run docker/init, then start again." >&2
        exit 78
    fi
    value=$(cat "$file") || exit 78
    # It is written into URLs, JSON and SQL; what would need quoting in one of them is refused.
    case $value in
        *[!A-Za-z0-9._~-]*)
            echo "The password in docker/secrets/$1 may consist of letters, digits and . _ ~ - only." >&2
            exit 78
            ;;
    esac
    printf %s "$value"
}
