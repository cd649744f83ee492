{{- define "gateway.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels that select: (list . "dimse") */}}
{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "gateway.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* gateway.toml: the user's settings, and over them what the chart itself decides. */}}
{{- define "gateway.settings" -}}
{{- $name := include "gateway.fullname" . }}
{{- $o := .Values.objects }}
{{- $s3 := dict "endpoint_url" $o.endpointUrl "bucket" $o.bucket "prefix" $o.prefix "region" $o.region "path_style" $o.pathStyle "create_bucket" $o.createBucket }}
{{- if .Values.seaweedfs.enabled }}
{{- $s3 = dict "endpoint_url" (printf "http://%s-seaweedfs:8333" $name) "bucket" ($o.bucket | default "gateway") "prefix" $o.prefix "region" $o.region "path_style" true "create_bucket" true }}
{{- end }}
{{- if .Values.ca.existingConfigMap }}{{ $_ := set $s3 "ca_bundle" "/etc/gateway-ca/ca.crt" }}{{ end }}
{{- $index := dict "engine" "postgres" "url" .Values.index.url "db_schema" .Values.index.schema }}
{{- if .Values.postgresql.enabled }}{{ $_ := set $index "url" (printf "postgresql://gateway@%s-postgresql:5432/gateway" $name) }}{{ end }}
{{- if .Values.index.existingSecret }}{{ $_ := set $index "password_file" "/etc/gateway-index/password" }}{{ end }}
{{- $fixed := dict
  "http" (dict "host" "0.0.0.0" "port" 8080 "workers" .Values.http.workers "drain_s" .Values.http.drainSeconds)
  "dimse" (dict "host" "0.0.0.0" "port" 11112 "workers" .Values.dimse.workers "drain_s" .Values.dimse.drainSeconds)
  "metrics" (dict "host" "0.0.0.0" "port" 9464)
  "storage" (dict "objects" "s3" "directory" "/var/lib/gateway")
  "s3" $s3
  "index" $index
  "access" (dict "policy_file" "/etc/gateway-policy/policy.toml")
}}
{{- if and .Values.ingress.enabled .Values.ingress.tlsSecret }}{{ $_ := set $fixed.http "tls_at_proxy" true }}{{ end }}
{{- with .Values.dimse.tls }}{{- if .existingSecret }}
{{- $tls := dict "tls_certificate_file" "/etc/gateway-dimse-tls/tls.crt" "tls_key_file" "/etc/gateway-dimse-tls/tls.key" "tls_or_clear" .orClear }}
{{- if ne .clientCertificates "none" }}{{ $_ := merge $tls (dict "tls_client_certificates" .clientCertificates "tls_client_ca_file" "/etc/gateway-dimse-tls/ca.crt") }}{{ end }}
{{- $_ := merge $fixed.dimse $tls }}
{{- end }}{{ end }}
{{- if .Values.encryption.existingSecret }}{{ $_ := set $fixed "encryption" (dict "keys_directory" "/etc/gateway-keys") }}{{ end }}
{{- toToml (mergeOverwrite (deepCopy .Values.settings) $fixed) -}}
{{- end }}

{{- define "gateway.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "gateway.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The pod of one face: (list . "dimse" .Values.dimse) */}}
{{- define "gateway.pod" -}}
{{- $root := index . 0 }}{{ $face := index . 1 }}{{ $of := index . 2 }}{{ $name := include "gateway.fullname" $root -}}
metadata:
  labels:
    {{- include "gateway.labels" (list $root $face) | nindent 4 }}
  annotations:
    # Settings are read at the start: other settings, other pods.
    checksum/settings: {{ include "gateway.settings" $root | sha256sum }}
    {{- with $of.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "gateway.serviceAccount" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "gateway.podSecurityContext" 10001 | nindent 4 }}
  # preStop, the drain itself, what the supervisor waits beyond it, and a margin.
  terminationGracePeriodSeconds: {{ add ($of.drainSeconds | default 20) 25 }}
  {{- with $of.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $of.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $of.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $root.Values.topologySpread.enabled (ne $face "background") }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: {{ $root.Values.topologySpread.topologyKey }}
      whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "gateway.selector" (list $root $face) | nindent 10 }}
  {{- end }}
  containers:
    - name: gateway
      image: {{ include "gateway.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: ["serve", "-c", "/etc/gateway/gateway.toml", "--face", {{ $face | quote }}]
      securityContext:
        {{- include "gateway.securityContext" $root | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: GATEWAY_AUDIT__DIRECTORY
          value: /var/lib/gateway-audit/$(POD_NAME)
        {{- if $root.Values.audit.persistence.enabled }}
        # What all pods have recorded is searched in any of them.
        - name: GATEWAY_AUDIT__OTHER_DIRECTORIES
          value: '["/var/lib/gateway-audit"]'
        {{- end }}
        {{- if $root.Values.audit.existingSecret }}
        - name: GATEWAY_AUDIT__KEY
          valueFrom:
            secretKeyRef:
              name: {{ $root.Values.audit.existingSecret }}
              key: {{ $root.Values.audit.keyKey }}
        {{- end }}
        {{- if $root.Values.objects.existingSecret }}
        - name: GATEWAY_S3__ACCESS_KEY_ID
          valueFrom:
            secretKeyRef:
              name: {{ $root.Values.objects.existingSecret }}
              key: {{ $root.Values.objects.accessKeyIdKey }}
        - name: GATEWAY_S3__SECRET_ACCESS_KEY
          valueFrom:
            secretKeyRef:
              name: {{ $root.Values.objects.existingSecret }}
              key: {{ $root.Values.objects.secretAccessKeyKey }}
        {{- end }}
        {{- with $root.Values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        {{- if eq $face "dimse" }}
        - {name: dimse, containerPort: 11112, protocol: TCP}
        {{- else if eq $face "http" }}
        - {name: http, containerPort: 8080, protocol: TCP}
        {{- end }}
        - {name: metrics, containerPort: 9464, protocol: TCP}
      startupProbe:
        httpGet: {path: /health/live, port: metrics}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /health/live, port: {{ if eq $face "http" }}http{{ else }}metrics{{ end }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /health/ready, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 6
      {{- if ne $face "background" }}
      lifecycle:
        preStop:
          # Until every node knows that this pod takes no more connections.
          exec:
            command: ["sleep", "5"]
      {{- end }}
      resources:
        {{- toYaml $of.resources | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/gateway, readOnly: true}
        - {name: policy, mountPath: /etc/gateway-policy, readOnly: true}
        - {name: data, mountPath: /var/lib/gateway}
        - {name: audit, mountPath: /var/lib/gateway-audit}
        - {name: tmp, mountPath: /tmp}
        {{- if $root.Values.index.existingSecret }}
        - {name: index, mountPath: /etc/gateway-index, readOnly: true}
        {{- end }}
        {{- if $root.Values.encryption.existingSecret }}
        - {name: keys, mountPath: /etc/gateway-keys, readOnly: true}
        {{- end }}
        {{- if $root.Values.ca.existingConfigMap }}
        - {name: ca, mountPath: /etc/gateway-ca, readOnly: true}
        {{- end }}
        {{- if $root.Values.dimse.tls.existingSecret }}
        - {name: dimse-tls, mountPath: /etc/gateway-dimse-tls, readOnly: true}
        {{- end }}
  volumes:
    - name: settings
      configMap:
        name: {{ $name }}
    - name: policy
      {{- if $root.Values.policy.existingSecret }}
      secret:
        secretName: {{ $root.Values.policy.existingSecret }}
      {{- else }}
      configMap:
        name: {{ $root.Values.policy.existingConfigMap }}
      {{- end }}
        items:
          - {key: {{ $root.Values.policy.key }}, path: policy.toml}
    - name: data
      emptyDir:
        sizeLimit: {{ $root.Values.spool.sizeLimit }}
    - name: tmp
      emptyDir:
        sizeLimit: 1Gi
    - name: audit
      {{- if $root.Values.audit.persistence.enabled }}
      persistentVolumeClaim:
        claimName: {{ $root.Values.audit.persistence.existingClaim | default (printf "%s-audit" $name) }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- if $root.Values.index.existingSecret }}
    - name: index
      secret:
        secretName: {{ $root.Values.index.existingSecret }}
        defaultMode: 0440
        items:
          - {key: {{ $root.Values.index.passwordKey }}, path: password}
    {{- end }}
    {{- if $root.Values.encryption.existingSecret }}
    - name: keys
      secret:
        secretName: {{ $root.Values.encryption.existingSecret }}
        defaultMode: 0440
    {{- end }}
    {{- if $root.Values.ca.existingConfigMap }}
    - name: ca
      configMap:
        name: {{ $root.Values.ca.existingConfigMap }}
        items:
          - {key: {{ $root.Values.ca.key }}, path: ca.crt}
    {{- end }}
    {{- if $root.Values.dimse.tls.existingSecret }}
    - name: dimse-tls
      secret:
        secretName: {{ $root.Values.dimse.tls.existingSecret }}
        defaultMode: 0440
    {{- end }}
{{- end }}
