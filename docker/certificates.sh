#!/bin/sh
# Creates a CA certificate in /etc/tls/ca.crt, and a certificate in tls.crt and tls.key for the names on the
# command line, unless there is a valid one. The key of the CA is not kept.
set -eu

if openssl x509 -in /etc/tls/tls.crt -noout -checkend 86400 2>/dev/null; then exit; fi

names=
for name; do
    case $name in
        *[!0-9.]*) names=$names,DNS:$name ;;
        *) names=$names,IP:$name ;;
    esac
done
cd "$(mktemp -d)"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj "/CN=local authority" \
    -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.crt
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -keyout tls.key -out tls.csr
printf '%s\n' "subjectAltName=critical,${names#,}" extendedKeyUsage=serverAuth >extensions
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 90 -extfile extensions -out tls.crt

mv -f ca.crt tls.crt tls.key /etc/tls
chown 65532:65532 /etc/tls/tls.key # only the load balancer's user may read it
