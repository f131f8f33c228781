# shellcheck shell=bash
# Sourced: a private nginx in a folder, on 127.0.0.1 only. Needs common.sh.

# nginx_conf FOLDER PORT: the shop's web server. It logs the person who is logged in and an abbreviated address, as a privacy policy promises.
nginx_conf() {
  local folder=$1 port=$2
  if [ "$(id -u)" -eq 0 ]; then
    # Workers open the log again by themselves when told to, below folders that another account may not be able to walk.
    printf 'user root;\n'
  fi
  cat <<EOT
worker_processes 1;
pid "$folder/nginx.pid";
error_log "$folder/error.log" warn;
events { worker_connections 256; }
http {
    client_body_temp_path "$folder/tmp-body";
    proxy_temp_path "$folder/tmp-proxy";
    fastcgi_temp_path "$folder/tmp-fastcgi";
    uwsgi_temp_path "$folder/tmp-uwsgi";
    scgi_temp_path "$folder/tmp-scgi";
    set_real_ip_from 127.0.0.1;
    real_ip_header X-Forwarded-For;
    map \$remote_addr \$abbreviated {
        ~^(?<net>\d+\.\d+\.\d+)\.        \$net.0;
        ~^(?<net6>[^:]+:[^:]+:[^:]+):    \$net6::;
        default                          0.0.0.0;
    }
    log_format shop '\$abbreviated - \$http_x_user [\$time_local] "\$request" '
                    '\$status \$body_bytes_sent "\$http_referer" "\$http_user_agent"';
    server {
        listen 127.0.0.1:$port;
        access_log "$folder/logs/access.log" shop;
        location / { default_type text/plain; return 200 "lagerhaus\n"; }
    }
}
EOT
}

# nginx_start FOLDER PORT: logs go to FOLDER/logs.
nginx_start() {
  local folder=$1 port=$2
  mkdir -p "$folder/logs"
  nginx_conf "$folder" "$port" >"$folder/nginx.conf"
  nginx -p "$folder" -c "$folder/nginx.conf" -e "$folder/error.log" || { say "nginx does not start:"; tail -5 "$folder/error.log" >&2; return 1; }
}

# nginx_stop FOLDER
nginx_stop() {
  local folder=$1 pid i
  pid=$(cat "$folder/nginx.pid" 2>/dev/null) || return 0
  nginx -p "$folder" -c "$folder/nginx.conf" -e "$folder/error.log" -s quit 2>/dev/null || return 0
  for i in $(seq 50); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
    if [ "$i" -eq 40 ]; then kill -TERM "$pid" 2>/dev/null; fi
  done
}
