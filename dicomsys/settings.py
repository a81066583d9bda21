"""Settings: one file, one section a subject. Machines differ by environment, secrets come from the keyring."""

import os
from importlib.util import find_spec
from pathlib import Path
from ssl import CERT_REQUIRED
from urllib.parse import quote, urlsplit, urlunsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from kombu import Exchange, Queue

from apps.core.queue import QUEUE_NAMES
from apps.core.secrets import open_keyring, read_secret
from dicomsys.schedule import DEFAULT_SCHEDULE  # noqa: F401  a setting

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
_env_file = Path(env.str("DICOMSYS_ENV_FILE", default=str(BASE_DIR / "var" / "evaluation" / "env")))
if _env_file.is_file():
    env.read_env(_env_file)

# --- Profile: production unless the machine says otherwise; evaluation relaxes version floors and web TLS only
PROFILE = env.str("DICOMSYS_PROFILE", default="production")
if PROFILE not in ("evaluation", "production"):
    raise ImproperlyConfigured(f"DICOMSYS_PROFILE is {PROFILE!r}: write evaluation or production")
IS_PRODUCTION = PROFILE == "production"
DEBUG = False

# --- Secrets: a missing one stops here and names itself
open_keyring(env.path("DICOMSYS_KEYRING_FILE"), env.str("DICOMSYS_MASTER_KEY_FILE", default=""))
SECRET_KEY = read_secret("django-secret-key")
RULES_KEY = read_secret("rules-key")  # signs what the receiver is told of who may connect
IDENTITY_KEY = read_secret("identity-key").encode()  # of the HMACs by which ingest tells persons apart

# --- File store: the spool lives beside it, so that a batch can be adopted by hard links
DATA_DIR = Path(env.str("DICOMSYS_DATA_DIR"))
SPOOL_DIR = DATA_DIR / "spool"
QUARANTINE_DIR = DATA_DIR / "quarantine"
SERVICES_SOCKET = Path(env.str("DICOMSYS_SERVICES_SOCKET", default=str(DATA_DIR / "run" / "services.sock")))
SPOOL_MIN_FREE_BYTES = env.int("DICOMSYS_SPOOL_MIN_FREE_BYTES", default=1_000_000_000)
SPOOL_SLOW_BATCHES = env.int("DICOMSYS_SPOOL_SLOW_BATCHES", default=2_000)  # waiting: from here senders are slowed
SPOOL_MAX_BATCHES = env.int("DICOMSYS_SPOOL_MAX_BATCHES", default=50_000)  # from here C-STORE is refused with 0xA700

# --- Applications
INSTALLED_APPS = [
    "apps.core",
    "apps.audit",
    "apps.accounts",
    "apps.storage",
    "apps.nodes",
    "apps.archive",
    "apps.transfer",
    "apps.films",
    "apps.printing",
    "apps.operations",
    "apps.portal",
    "django_celery_beat",
    "django_htmx",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apps.accounts.access.DenyByDefaultMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apps.portal.middleware.NoStoreMiddleware",
]
ROOT_URLCONF = "dicomsys.urls"
WSGI_APPLICATION = "dicomsys.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.portal.context.site",
            ]
        },
    }
]

# --- Database: TLS verify-full only; values travel apart from the statement, so none shows in the server's views
_database = urlsplit(env.str("DICOMSYS_DATABASE_URL"))
DATABASE_ROLE = env.str("DICOMSYS_DATABASE_ROLE", default="dicomsys_app")
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _database.hostname,
        "PORT": str(_database.port or 5432),
        "NAME": _database.path.strip("/"),
        "USER": DATABASE_ROLE,
        "PASSWORD": read_secret(f"database-{DATABASE_ROLE}"),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "server_side_binding": True,
            "sslmode": "verify-full",
            "sslrootcert": env.str("DICOMSYS_DATABASE_CA"),
            "target_session_attrs": "read-write",
            "connect_timeout": 5,
            "tcp_user_timeout": 8000,
            "application_name": "dicomsys",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Task queue: the row is the truth, a message only says "look"; what fails unexpectedly is dead-lettered
_broker = urlsplit(env.str("DICOMSYS_BROKER_URL"))
if _broker.scheme != "amqps":
    raise ImproperlyConfigured("DICOMSYS_BROKER_URL must start with amqps://")
_login = f"{_broker.username}:{quote(read_secret(f'broker-{_broker.username}'), safe='')}"
CELERY_BROKER_URL = urlunsplit(("amqp", f"{_login}@{_broker.hostname}:{_broker.port or 5671}", _broker.path, "", ""))
CELERY_BROKER_USE_SSL = {
    "ca_certs": env.str("DICOMSYS_BROKER_CA"),
    "certfile": env.str("DICOMSYS_BROKER_CERT"),
    "keyfile": env.str("DICOMSYS_BROKER_KEY"),
    "cert_reqs": CERT_REQUIRED,
    "server_hostname": _broker.hostname,
}
BROKER_VHOST = _broker.path.strip("/")
BROKER_NODES = env.int("DICOMSYS_BROKER_NODES", default=1)  # what the doctor expects each queue to live on
RABBITMQCTL = env.str("DICOMSYS_RABBITMQCTL", default="")  # AMQP does not tell a queue's members
CERTIFICATE_FILES = [env.str(f"DICOMSYS_{name}") for name in ("DATABASE_CA", "BROKER_CA", "BROKER_CERT")]
CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_SERIALIZER, CELERY_ACCEPT_CONTENT = "json", ["json"]
CELERY_TASK_IGNORE_RESULT, CELERY_RESULT_EXPIRES = True, None  # None: or beat adds celery.backend_cleanup
CELERY_TASK_ACKS_LATE = CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_ACKS_ON_FAILURE = CELERY_TASK_ACKS_ON_TIMEOUT = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False  # True would cut a print in its N-ACTION
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False  # its queues are classic and transient; newer brokers refuse them
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = "maintenance"
CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"
_TASKS = Exchange("dicomsys.tasks", type="topic")
_ARGS = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 5,
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "dicomsys.dead",
    "x-dead-letter-strategy": "at-least-once",
}
CELERY_TASK_QUEUES = [Queue(n, _TASKS, routing_key=n, queue_arguments=_ARGS) for n in QUEUE_NAMES]
CELERY_TASK_ROUTES = {f"{name}.*": {"queue": name, "routing_key": name} for name in QUEUE_NAMES}
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SYNC_EVERY = 1  # the doctor reads when a task was last asked for: beat else writes it each 3 min
CELERY_TIMEZONE = "UTC"
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- Archive: a study is complete when no image came for so long, where its sender has no time of its own
STUDY_QUIET_S = env.int("DICOMSYS_STUDY_QUIET_S", default=60)

# --- DICOM: who we are and where we listen
AE_TITLE = env.str("DICOMSYS_AE_TITLE", default="DICOMSYS")
DICOM_ADDRESS = env.str("DICOMSYS_DICOM_ADDRESS", default="127.0.0.1")
DICOM_PORT = env.int("DICOMSYS_DICOM_PORT", default=11112)
DICOM_TLS_PORT = env.int("DICOMSYS_DICOM_TLS_PORT", default=0)  # 0: no TLS port; 2762 is the registered one
DICOM_TLS_CERT = env.str("DICOMSYS_DICOM_TLS_CERT", default="")
DICOM_TLS_KEY = env.str("DICOMSYS_DICOM_TLS_KEY", default="")
DICOM_TLS_CLIENT_CA = env.str("DICOMSYS_DICOM_TLS_CLIENT_CA", default="")  # set: callers must show a certificate of it
DICOM_ACCEPT_UNKNOWN_CLASSES = env.bool("DICOMSYS_DICOM_ACCEPT_UNKNOWN_CLASSES", default=True)
DICOM_MAX_ASSOCIATIONS = env.int("DICOMSYS_DICOM_MAX_ASSOCIATIONS", default=50)
DICOM_MAX_CONNECTING = 64  # connections that have not yet asked for an association
RECEIVER_PROCESSES = env.int("DICOMSYS_RECEIVER_PROCESSES", default=min(os.cpu_count() or 1, 8))
RECEIVER_STATUS_FILE = DATA_DIR / "run" / "receiver.json"
DICOM_CONNECT_TIMEOUT_S = env.int("DICOMSYS_DICOM_CONNECT_TIMEOUT_S", default=10)
DICOM_ACSE_TIMEOUT_S = env.int("DICOMSYS_DICOM_ACSE_TIMEOUT_S", default=30)
DICOM_DIMSE_TIMEOUT_S = env.int("DICOMSYS_DICOM_DIMSE_TIMEOUT_S", default=60)
DICOM_NETWORK_TIMEOUT_S = env.int("DICOMSYS_DICOM_NETWORK_TIMEOUT_S", default=60)
DICOM_FIND_RESULTS_MAX = env.int("DICOMSYS_DICOM_FIND_RESULTS_MAX", default=2000)
DICOM_FIND_TIMEOUT_S = env.int("DICOMSYS_DICOM_FIND_TIMEOUT_S", default=30)
# Evaluation takes images from any station of this machine; production only from stations in the node table.
DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS = not IS_PRODUCTION
DICOM_USER_IDENTITY = env.str("DICOMSYS_DICOM_USER_IDENTITY", default="ignore")
if DICOM_USER_IDENTITY not in ("ignore", "check"):
    raise ImproperlyConfigured(f"DICOMSYS_DICOM_USER_IDENTITY is {DICOM_USER_IDENTITY!r}: write ignore or check")
TRAFFIC_DAYS = env.int("DICOMSYS_TRAFFIC_DAYS", default=90)  # how long the numbers of each minute are kept

# --- Web: no outside request, no page cached (thumbnails are, until sign-out), nothing framed
ALLOWED_HOSTS = env.list("DICOMSYS_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("DICOMSYS_CSRF_TRUSTED_ORIGINS", default=[])
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],  # data: the icons inside Tabler's style sheet
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = env.int("DICOMSYS_SESSION_AGE_S", default=8 * 3600)
SESSION_COOKIE_NAME = env.str("DICOMSYS_SESSION_COOKIE_NAME", default="dicomsys_session")
if IS_PRODUCTION:
    SECURE_SSL_REDIRECT = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("DICOMSYS_STATIC_ROOT", default=str(BASE_DIR / "static")))
_tabler = find_spec("jazzy_tabler")  # only its copy of the Tabler files is used, not its admin theme
if _tabler is None or _tabler.origin is None:
    raise ImproperlyConfigured("django-jazzy-tabler is not installed: it carries the Tabler style sheet")
STATICFILES_DIRS = [("tabler", Path(_tabler.origin).parent / "static" / "vendor" / "tabler")]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},  # nothing is stored through Django
    "staticfiles": {"BACKEND": "apps.portal.staticfiles.HashedStaticFilesStorage"},
}
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]

# --- People
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "accounts:login", "portal:worklist", "accounts:login"
_VALIDATION = "django.contrib.auth.password_validation."
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": _VALIDATION + "UserAttributeSimilarityValidator"},
    {"NAME": _VALIDATION + "MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": _VALIDATION + "CommonPasswordValidator"},
    {"NAME": _VALIDATION + "NumericPasswordValidator"},
]

# --- Language and time
LANGUAGE_CODE = "en"
TIME_ZONE = env.str("DICOMSYS_TIME_ZONE", default="UTC")
USE_I18N = USE_TZ = True
FIXTURE_DIRS = [BASE_DIR / "fixtures"]

# --- Logs: one stream a process, standard error; whoever starts the process says where it goes
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": env.str("DICOMSYS_LOG_LEVEL", default="INFO")},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        # pydicom warns with the value it dislikes, pynetdicom logs identifiers: both may be a person's
        "pydicom": {"level": "CRITICAL"},
        "pynetdicom": {"level": "CRITICAL"},
    },
}
